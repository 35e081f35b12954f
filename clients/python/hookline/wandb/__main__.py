"""`python -m hookline.wandb script.py …`: run a script, or `-m` a module, with the completed client."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

USAGE = "usage: python -m hookline.wandb (SCRIPT | -m MODULE) [ARGUMENTS…]"


def main(arguments: Sequence[str]) -> int:
    """Run it as Python itself would; 2 if there is nothing to run."""
    words = list(arguments)
    if words[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if words[:1] == ["-m"] and len(words) > 1:
        sys.argv[:] = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return 0
    if not words or words[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    if not Path(words[0]).exists():
        print(f"python -m hookline.wandb: there is no script {words[0]!r}", file=sys.stderr)
        return 2
    sys.argv[:] = words
    sys.path[0] = str(Path(words[0]).resolve().parent)  # it was the current folder
    runpy.run_path(words[0], run_name="__main__")
    return 0


sys.exit(main(sys.argv[1:]))
