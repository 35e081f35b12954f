"""requirements/ against pyproject.toml: each package at one version, with hashes, and nothing missing on any Python."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from requirements.resolve import PARTS

ROOT = Path(__file__).parents[2]
FILES = tuple(PARTS)
INSTALLED = {
    "production": ("runtime", "otel"),
    "serve and demo": ("build", "runtime", "local"),
    "everything": ("build", "runtime", "local", "otel", "oidc", "dev"),
}
EXTRAS = {"production": {"otel"}, "serve and demo": {"embedded", "demo"}, "everything": {"dev"}}
# redis needs async-timeout before 3.11.3, which Debian 12's Python is.
PYTHONS = ("3.11.2", "3.11.7", "3.12.0", "3.13.5", "3.14.0")


@cache
def pins(name: str) -> dict[str, tuple[Requirement, frozenset[str]]]:
    """The packages of a file, each with the pin and its hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    found: dict[str, tuple[Requirement, frozenset[str]]] = {}
    for line in re.sub(r"\\\n", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines():
        pin, *hashes = line.split("--hash=")
        requirement = Requirement(pin)
        found[canonicalize_name(requirement.name)] = requirement, frozenset(one.strip() for one in hashes)
    return found


def project() -> dict[str, list[Requirement]]:
    """What pyproject.toml asks for, under each extra; without one under the blank."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {"": table["dependencies"], **table["optional-dependencies"]}
    return {extra: [Requirement(line) for line in lines] for extra, lines in asked.items()}


def needed(extras: set[str], environment: dict[str, str]) -> set[str]:
    """Every package that the project with these extras leads to in an environment, as far as it is installed here."""
    found: set[str] = set()
    left = [(one, "") for extra in ("", *extras) for one in project()[extra]]
    while left:
        requirement, extra = left.pop()
        if requirement.marker and not requirement.marker.evaluate({**environment, "extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name == "hookline":
            left += [(one, "") for inner in requirement.extras for one in project()[inner]]
            continue
        seen = f"{name}[{','.join(sorted(requirement.extras))}]"
        if seen in found:
            continue
        found.add(seen)
        try:
            texts = requires(name) or []
        except PackageNotFoundError:  # what only another Python needs
            continue
        left += [(Requirement(text), inner) for text in texts for inner in ("", *requirement.extras)]
    return {seen.partition("[")[0] for seen in found}


@pytest.mark.parametrize("name", FILES)
def test_each_package_has_one_version_and_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text and "@" not in text
    assert set(re.findall(r"--[a-z-]+", text)) == {"--hash"}
    for pin, hashes in pins(name).values():
        assert [one.operator for one in pin.specifier] == ["=="], pin
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), pin


def test_files_agree() -> None:
    seen: dict[str, tuple[str, frozenset[str]]] = {}
    for name in FILES:
        for package, (pin, hashes) in pins(name).items():
            assert seen.setdefault(package, (str(pin), hashes)) == (str(pin), hashes)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("use", INSTALLED)
def test_nothing_is_missing(use: str, python: str) -> None:
    environment = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    pinned = {
        package
        for name in INSTALLED[use]
        for package, (pin, _) in pins(name).items()
        if pin.marker is None or pin.marker.evaluate(environment)
    }
    wanted = needed(EXTRAS[use], environment)
    assert len(wanted) > 50
    assert wanted - pinned == set()
    assert ("async-timeout" in wanted) is (python == "3.11.2")


def test_versions_are_those_that_the_project_allows() -> None:
    versions = {package: pin for name in FILES for package, (pin, _) in pins(name).items()}
    asked = [one for lines in project().values() for one in lines if one.name != "hookline"]
    assert len(asked) > 50
    for requirement in asked:
        (pin,) = versions[canonicalize_name(requirement.name)].specifier
        assert pin.version in requirement.specifier, f"`make constraints` is due: {requirement}"
