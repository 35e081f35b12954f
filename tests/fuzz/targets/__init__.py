"""The fuzz targets, a module each; `TARGET` is what a module offers."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from tests.fuzz.target import Target

CORPUS = Path(__file__).parent.parent / "corpus"
NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> Target:
    """The target of this name, imported now: coverage is only measured of what is imported under a fuzzer's eyes."""
    target: Target = importlib.import_module(f"{__name__}.{name}").TARGET
    return target


def seeds(name: str) -> list[Path]:
    """The files of a target's seed corpus, in order of their names."""
    return sorted(path for path in (CORPUS / name).iterdir() if path.is_file())
