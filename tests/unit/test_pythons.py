"""Which Pythons are supported is said once in each place, and `make test-pythons` finds them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.pythons import SUPPORTED, found

ROOT = Path(__file__).parents[2]


def test_every_place_names_the_same_pythons() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [match[1] for line in project["classifiers"] if (match := re.fullmatch(r".* :: Python :: (3\.\d+)", line))]
    assert tuple(named) == SUPPORTED
    assert project["requires-python"] == f">={SUPPORTED[0]}"
    for page in ("README.md", "docs/operations.md"):
        assert f"Python {SUPPORTED[0]} to {SUPPORTED[-1]}" in (ROOT / page).read_text(), page


def test_the_newest_of_a_version_that_works_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for full, answer in (("9.9.9", "9.9.9"), ("9.9.10", "9.9.10"), ("9.9.11", ""), ("9.10.1", "9.10.1")):
        python = tmp_path / "versions" / full / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\necho {answer}\n")
        python.chmod(0o755)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert found("9.9") == (str(tmp_path / "versions/9.9.10/bin/python"), "9.9.10")
    assert found("9.8") is None
