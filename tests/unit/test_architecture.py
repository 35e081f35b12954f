"""docs/architecture.md against import-linter's contracts in pyproject.toml and the packages on disk; docs/glossary.md
against the names in the code."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
TOP = ("worker", "shared", "dispatcher")
TABLE = re.compile(r"^### `([\w.]+)`\n(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| (`.*?) (?<!\\)\|", re.MULTILINE)


class Layer(NamedTuple):
    """The parts of one layer, and whether they may import each other."""

    parts: frozenset[str]
    are_independent: bool


def drawn() -> dict[str, list[Layer]]:
    """The layers in the page's tables, from the top down, by package."""
    return {
        package: [
            Layer(frozenset(re.findall(r"`(\w+)`", row)), are_independent="," not in row) for row in ROW.findall(text)
        ]
        for package, text in TABLE.findall(PAGE)
    }


@cache
def contracted() -> dict[str, list[Layer]]:
    """The layers in import-linter's contracts, from the top down, by package."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return {
        container: [
            Layer(frozenset(re.findall(r"\w+", layer)), are_independent=":" not in layer)
            for layer in contract["layers"]
        ]
        for contract in linter["contracts"]
        if contract["type"] == "layers"
        for container in contract["containers"]
    }


def parts_of(package: str) -> set[str]:
    """The modules and packages directly in a package."""
    folder = ROOT / package.replace(".", "/")
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    return modules | {path.parent.name for path in folder.glob("*/__init__.py")}


def packages() -> list[str]:
    """Every package of the project, by its dotted name."""
    files = [path for top in TOP for path in (ROOT / top).rglob("__init__.py")]
    return sorted(".".join(path.parent.relative_to(ROOT).parts) for path in files)


@pytest.mark.parametrize("package", [*contracted()])
def test_the_page_draws_the_layers_that_import_linter_enforces(package: str) -> None:
    assert drawn()[package] == contracted()[package]


@pytest.mark.parametrize("package", [*drawn()])
def test_the_page_names_what_is_in_a_package_and_nothing_else(package: str) -> None:
    named = [part for layer in drawn()[package] for part in layer.parts]
    assert sorted(named) == sorted(parts_of(package))


def test_the_page_has_a_table_for_each_top_package() -> None:
    assert {*TOP, *contracted()} <= drawn().keys()


@pytest.mark.parametrize("package", packages())
def test_every_package_is_named(package: str) -> None:
    parent, _, name = package.rpartition(".")
    in_a_table = any(name in layer.parts for layer in drawn().get(parent, []))
    assert package in TOP or in_a_table or package.replace(".", "/") in PAGE


def test_names_that_the_glossary_explains_are_in_the_code() -> None:
    _, _, section = (ROOT / "docs" / "glossary.md").read_text().partition("## Names in the code")
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    sources = "\n".join(path.read_text() for path in (ROOT / "worker").rglob("*.py"))
    assert named and named <= set(re.findall(r"^class (\w+)", sources, re.MULTILINE))
