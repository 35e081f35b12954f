"""The version: written once in the code, and the same wherever people meet it."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import yaml
from packaging.version import Version

from shared.version import __version__

ROOT = Path(__file__).parents[2]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
NUMBER = r"\d+\.\d+\.\d+"
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
"""The sections of a version in Keep a Changelog."""


def released() -> list[tuple[str, str]]:
    """The versions in the changelog, newest first, each with its date."""
    return re.findall(rf"^## \[({NUMBER})\] - (\S+)$", CHANGELOG, re.MULTILINE)


def test_the_newest_released_version_is_this_one() -> None:
    versions = [Version(version) for version, _ in released()]
    assert str(versions[0]) == __version__
    assert versions == sorted(set(versions), reverse=True)


def test_the_changelog_has_the_form_that_it_says() -> None:
    headings = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)
    assert headings == ["[Unreleased]", *(f"[{version}] - {day}" for version, day in released())]
    days = [date.fromisoformat(day) for _, day in released()]
    assert days == sorted(days, reverse=True)
    for section in re.split(r"^## ", CHANGELOG, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.+)$", section, re.MULTILINE)
        assert set(kinds) <= KINDS
        assert len(kinds) == len(set(kinds)), section.partition("\n")[0]


def test_every_file_says_the_same_version() -> None:
    chart = yaml.safe_load((ROOT / "deploy/helm/hookline/Chart.yaml").read_text())
    said = {"chart": chart["version"], "app of the chart": chart["appVersion"]}
    for name, pattern in {
        "deploy/compose/compose.yaml": r"hookline:({})",
        "deploy/compose/env.example": r"hookline:({})",
        "docs/automations.md": r"User-Agent: hookline/({})",
    }.items():
        (said[name],) = re.findall(pattern.format(NUMBER), (ROOT / name).read_text())
    assert said == dict.fromkeys(said, __version__)


def test_the_operations_page_names_versions_that_exist() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    named = re.findall(rf"/opt/hookline-({NUMBER})", page)
    known = [version for version, _ in released()]
    assert named[0] == __version__
    assert set(named) <= set(known)
    assert f"### From {known[1]} to {known[0]}" in page


def test_celery_reports_it() -> None:
    """In a process of its own: the tasks of an application that was imported appear in every other one."""
    command = [sys.executable, "-m", "celery", "-A", "worker", "report"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"hookline_version: '{__version__}'" in said
