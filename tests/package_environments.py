"""Environments of their own under build/, for packages that only some tests need: of Python, and of Node.js."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BUILD = Path(__file__).parents[1] / "build"


@dataclass(frozen=True, slots=True)
class Environments:
    """One of Python and one of Node.js, in a folder."""

    folder: Path
    python_packages: Sequence[str]
    node_packages: Mapping[str, str]

    @property
    def python(self) -> Path:
        """The interpreter."""
        return self.folder / "python" / "bin" / "python"

    @property
    def node(self) -> Path:
        """The folder with `package.json` and `node_modules`."""
        return self.folder / "node"

    def has_python(self) -> bool:
        """Whether the packages for Python are here."""
        return (self.folder / "python" / ".ready").exists()

    def has_node(self) -> bool:
        """Whether Node.js and its packages are here."""
        return shutil.which("node") is not None and (self.node / ".ready").exists()

    def make(self) -> None:
        """Make both, unless they are there; the second only where there is Node.js."""
        if not self.has_python():
            if not self.python.exists():
                subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.folder / "python"], check=True)
            pip = [sys.executable, "-m", "pip", "--python", str(self.python), "--quiet", "--disable-pip-version-check"]
            wanted = ["install", "--only-binary", ":all:", "--no-compile", *self.python_packages]
            subprocess.run([*pip, *wanted], check=True)
            (self.folder / "python" / ".ready").touch()
        npm = shutil.which("npm")
        if npm is None:
            print("no Node.js here: what needs it is not tried")
        elif not self.has_node():
            self._install_node_packages(npm)

    def _install_node_packages(self, npm: str) -> None:
        self.node.mkdir(parents=True, exist_ok=True)
        package = {"name": self.folder.name, "private": True, "type": "module", "dependencies": self.node_packages}
        (self.node / "package.json").write_text(json.dumps(package))
        done = subprocess.run([npm, "install", "--no-audit", "--no-fund", "--silent"], cwd=self.node, check=False)
        if done.returncode == 0:
            (self.node / ".ready").touch()
        else:
            print("npm can't install here: what needs Node.js is not tried")
