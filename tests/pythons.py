"""Runs the test suite on each supported Python that this machine has, pyenv's and those on PATH.

Each runs `make test` with a venv of its own, `.venv-3.12` and the like. Run by `make test-pythons`; needs no venv.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
# A name on PATH may be a shim that only says that its Python is not chosen, or a Python without the module `venv`.
# One without the global lock is not supported.
TRIAL = """
import ensurepip, sys, sysconfig, venv
print("%d.%d.%d" % sys.version_info[:3] if not sysconfig.get_config_var("Py_GIL_DISABLED") else "")
"""
MAKE = shutil.which("make") or "make"


def found(version: str) -> tuple[str, str] | None:
    """The newest Python of this version as its path and full version; None where there is none that works."""
    working = [(full, path) for path in _candidates(version) if (full := _full_version(path)).startswith(f"{version}.")]
    if not working:
        return None
    full, path = max(working, key=lambda one: _numbers(one[0]))
    return path, full


def _candidates(version: str) -> list[str]:
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return [*map(str, versions.glob(f"{version}.*/bin/python")), f"python{version}", f"/usr/bin/python{version}"]


def _full_version(path: str) -> str:
    try:
        done = subprocess.run([path, "-c", TRIAL], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _numbers(full: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall("[0-9]+", full)))


def main() -> int:
    """Run the suite on each; 1 where it failed on any, and 0 too where none was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", default=SUPPORTED, help=f"default: {' '.join(SUPPORTED)}")
    parser.add_argument("--target", default="test", help="what make makes on each (default: test)")
    arguments = parser.parse_args()
    outcomes = {}
    for version in arguments.versions:
        if (python := found(version)) is None:
            outcomes[version] = "not found"
            continue
        path, full = python
        print(f"== Python {full} ({path})", flush=True)
        done = subprocess.run([MAKE, arguments.target, f"PYTHON={path}", f"VENV=.venv-{version}"], check=False)
        outcomes[version] = f"{full}: {'passed' if done.returncode == 0 else 'failed'}"
    for version, outcome in outcomes.items():
        print(f"Python {version}: {outcome}")
    return int(any(outcome.endswith("failed") for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
