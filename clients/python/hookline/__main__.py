"""`python -m hookline` is `hookline-agent`."""

import sys

from hookline.cli import main

sys.exit(main(program="python -m hookline"))
