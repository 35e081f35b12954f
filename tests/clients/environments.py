"""Environments of client versions, made once and kept under build/clients/. `python -m tests.clients.environments`.

One for each minor version since the first that can make automations, and one for the newest that there is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version as installed_version
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "build" / "clients"
OWN = installed_version("wandb")
"""The version that tests/sdk/ has in its own process; it needs no environment."""
VERSIONS = (
    "0.19.11",
    "0.20.1",
    "0.21.4",
    "0.22.3",
    "0.23.0",
    "0.23.1",
    "0.24.2",
    "0.25.1",
    "0.26.1",
    "0.27.2",
    "0.28.2",
    "0.29.0",
    "0.30.0",
    OWN,
)
NEWEST = "newest"
"""The environment of the newest version; it has none where that is one of `VERSIONS`."""


def python_of(version: str) -> Path | None:
    """The interpreter that has this version; None where its environment was not made."""
    if version == OWN:
        return Path(sys.executable)
    return FOLDER / version / "bin" / "python" if (FOLDER / version / ".ready").exists() else None


def available() -> list[str]:
    """The versions to try now, oldest first: those of `CLIENTS`, which may be "all", that are here; or else `OWN`."""
    asked = os.environ.get("CLIENTS", OWN)
    wanted = (*VERSIONS, NEWEST) if asked == "all" else asked.split()
    return [version for version in wanted if python_of(version) is not None]


def make(version: str) -> None:
    """Make the environment of a version, unless it is there. Raises CalledProcessError."""
    if python_of(version) is None:
        _install(FOLDER / version, f"wandb=={version}")
        (FOLDER / version / ".ready").touch()


def make_newest() -> None:
    """Make the environment of the newest version anew, or keep the one that is still that."""
    folder = FOLDER / NEWEST
    _install(folder, "wandb", "--upgrade")
    asked = [str(folder / "bin" / "python"), "-c", "import importlib.metadata as m; print(m.version('wandb'))"]
    found = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    ready = folder / ".ready"
    if found in VERSIONS:
        ready.unlink(missing_ok=True)
    else:
        ready.touch()
    print(f"newest: {found}")


def _install(folder: Path, *wanted: str) -> None:
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet", "--disable-pip-version-check"]
    # Compiling everything takes longer than what the tests import of it.
    subprocess.run([*pip, "install", "--only-binary", ":all:", "--no-compile", *wanted], check=True)


def main(versions: Iterable[str]) -> None:
    """Make those that are asked for, or all of them."""
    chosen = list(versions)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(make, chosen or VERSIONS))
    if not chosen:
        make_newest()


if __name__ == "__main__":
    main(sys.argv[1:])
