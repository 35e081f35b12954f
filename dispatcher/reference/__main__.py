"""`python -m dispatcher.reference`: write the generated pages, or with `--check` compare them with the code."""

from __future__ import annotations

from dispatcher.reference.settings_page import main

if __name__ == "__main__":
    main()
