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
from subprocess import CalledProcessError

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


def make(version: str) -> str | None:
    """Make the environment of a version, unless it is there; says why where it can't be made."""
    if python_of(version) is None:
        try:
            _install(FOLDER / version, f"wandb=={version}")
        except CalledProcessError as exc:
            return f"{version} is left out, it can't be installed here: {_why(exc)}"
        (FOLDER / version / ".ready").touch()
    return None


def make_newest() -> str:
    """Make the environment of the newest version anew, or keep the one that is still that; says which it is."""
    folder = FOLDER / NEWEST
    try:
        _install(folder, "wandb", "--upgrade")
    except CalledProcessError as exc:
        return f"the newest is left out, it can't be installed here: {_why(exc)}"
    asked = [str(folder / "bin" / "python"), "-c", "import importlib.metadata as m; print(m.version('wandb'))"]
    found = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    ready = folder / ".ready"
    if found in VERSIONS:
        ready.unlink(missing_ok=True)
    else:
        ready.touch()
    return f"newest: {found}"


def _why(exc: CalledProcessError) -> str:
    """The last line of what pip said, or that it took too long."""
    lines = [line for line in str(exc.stderr or exc.stdout or exc).splitlines() if line.strip()]
    return lines[-1] if lines else str(exc)


def _install(folder: Path, *wanted: str) -> None:
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet", "--disable-pip-version-check"]
    # Compiling everything takes longer than what the tests import of it.
    command = [*pip, "install", "--only-binary", ":all:", "--no-compile", *wanted]
    subprocess.run(command, check=True, capture_output=True, text=True)


def main(versions: Iterable[str]) -> None:
    """Make those that are asked for, or all of them, and say which can't be made and why."""
    chosen = list(versions)
    with ThreadPoolExecutor(2) as pool:
        said = [*pool.map(make, chosen or VERSIONS)]
    for line in said if chosen else [*said, make_newest()]:
        if line is not None:
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
