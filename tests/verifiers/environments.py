"""The libraries, under build/verifiers/. `python -m tests.verifiers.environments` installs what it can here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "build" / "verifiers"
PYTHON = FOLDER / "python" / "bin" / "python"
NODE = FOLDER / "node"
PYTHON_PACKAGES = ("standardwebhooks==1.1.0", "svix==2.9.1")
NODE_PACKAGES = {"standardwebhooks": "1.1.1", "svix": "2.5.0"}


def has_python() -> bool:
    """Whether the Python libraries are here."""
    return (FOLDER / "python" / ".ready").exists()


def has_node() -> bool:
    """Whether Node.js and its libraries are here."""
    return shutil.which("node") is not None and (NODE / ".ready").exists()


def make() -> None:
    """Make both environments, unless they are there; the second only where there is Node.js."""
    if not has_python():
        if not PYTHON.exists():
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", FOLDER / "python"], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(PYTHON), "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--only-binary", ":all:", "--no-compile", *PYTHON_PACKAGES], check=True)
        (FOLDER / "python" / ".ready").touch()
    npm = shutil.which("npm")
    if npm is None:
        print("no Node.js here: the libraries for it are not tried")
    elif not has_node():
        NODE.mkdir(parents=True, exist_ok=True)
        package = {"name": "verifiers", "private": True, "type": "module", "dependencies": NODE_PACKAGES}
        (NODE / "package.json").write_text(json.dumps(package))
        done = subprocess.run([npm, "install", "--no-audit", "--no-fund", "--silent"], cwd=NODE, check=False)
        if done.returncode == 0:
            (NODE / ".ready").touch()
        else:
            print("npm can't install here: the libraries for Node.js are not tried")


if __name__ == "__main__":
    make()
