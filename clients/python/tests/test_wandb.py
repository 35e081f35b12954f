"""Where no `wandb` client that can be completed is installed; those that can are tried with Hookline itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import hookline

IMPORT = "import hookline.wandb"
NONE = """
import importlib.metadata as metadata
def version(name): raise metadata.PackageNotFoundError(name)
metadata.version = version
"""


def refusal(script: str, path: Path | None = None) -> str:
    """The last line that a process says, whose path begins with this folder."""
    package = Path(hookline.__file__).parents[1]
    own = {"PYTHONPATH": os.pathsep.join(str(each) for each in (path, package) if each)}
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, **own}, capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


def test_another_version_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for version in ("0.28.2", "0.31.1", "1.0.0"):
        folder = tmp_path / version / f"wandb-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: wandb\nVersion: {version}\n")
        assert refusal(IMPORT, folder.parent) == (
            "ImportError: hookline.wandb was tried with wandb 0.29.0, 0.30.0 and 0.31.0, but"
            f" {version} is installed: pip install wandb==0.31.0"
        )


def test_without_the_client_it_says_what_to_install() -> None:
    said = refusal(NONE + IMPORT)
    assert (
        said
        == "ImportError: hookline.wandb completes the wandb client, which is not installed: pip install wandb==0.31.0"
    )
