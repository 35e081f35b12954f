"""The generators, under build/generators/. `python -m tests.generators.environments` makes what can be made here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "build" / "generators"
PYTHON = FOLDER / "python" / "bin" / "python"
NODE = FOLDER / "node"
PYTHON_GENERATOR = "openapi-python-client==0.29.1"
NODE_PACKAGES = {
    "openapi-typescript": "7.13.0",
    "openapi-fetch": "0.17.0",
    "typescript": "5.9.3",
    "@types/node": "20.19.43",
}


def has_python() -> bool:
    """Whether the generator of Python clients is here."""
    return (FOLDER / "python" / ".ready").exists()


def has_node() -> bool:
    """Whether Node.js and the generator of TypeScript types are here."""
    return shutil.which("node") is not None and (NODE / ".ready").exists()


def make() -> None:
    """Make both environments, unless they are there; the second only where there is Node.js."""
    if not has_python():
        if not PYTHON.exists():
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", FOLDER / "python"], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(PYTHON), "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--only-binary", ":all:", "--no-compile", PYTHON_GENERATOR], check=True)
        (FOLDER / "python" / ".ready").touch()
    npm = shutil.which("npm")
    if npm is None:
        print("no Node.js here: the TypeScript client is not tried")
    elif not has_node():
        NODE.mkdir(parents=True, exist_ok=True)
        package = {"name": "generators", "private": True, "type": "module", "dependencies": NODE_PACKAGES}
        (NODE / "package.json").write_text(json.dumps(package))
        done = subprocess.run([npm, "install", "--no-audit", "--no-fund", "--silent"], cwd=NODE, check=False)
        if done.returncode == 0:
            (NODE / ".ready").touch()
        else:
            print("npm can't install here: the TypeScript client is not tried")


if __name__ == "__main__":
    make()
