"""The repository's rules, as they are or faster: every time in them divided by one factor.

A window of rates needs two scrapes, and an age can't be below what gauges and sweeps need; both have a least value.
"""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import yaml

from shared.domain.health_checks import CHECKS
from tests.integration.processes import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
FILES = ("rules.yml", "alerts.yml")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
WINDOW = re.compile(r"\[(\d+)([smhd])\]")
LEAST_WINDOW_SECONDS = 8
LEAST_AGE_SECONDS = 15
"""The dispatcher counts its gauges every five seconds, and a busy machine keeps it waiting."""
SILENCE = re.compile(r"(hookline_(?:server_answered_timestamp|oldest_due_prompt)_seconds\S*\) >) (\d+)")
LEAST_SILENCE_SECONDS = 10
"""Servers are asked every five seconds; they must be missed before what the dispatcher does with them."""
SCRAPE_SECONDS = 15


def seconds(duration: str) -> int:
    """A duration as these rules write it: a number and one unit."""
    return int(duration[:-1]) * UNITS[duration[-1]]


def scaled(real_seconds: float, factor: float, *, least_seconds: float = 0) -> int:
    """A time that is `factor` times shorter, in whole seconds."""
    return round(min(real_seconds, max(real_seconds / factor, least_seconds)))


def scrape_seconds(factor: float) -> int:
    """How often to scrape and to evaluate."""
    return max(1, scaled(SCRAPE_SECONDS, factor))


def faster(rules: dict[str, Any], factor: float) -> dict[str, Any]:
    """Rules whose windows, waiting times and thresholds of age are `factor` times shorter."""
    made = deepcopy(rules)
    for group in made["groups"]:
        for rule in group["rules"]:
            rule["expr"] = _faster(rule["expr"], factor)
            if "for" in rule:
                rule["for"] = f"{scaled(seconds(rule['for']), factor)}s"
    return made


def _faster(expression: str, factor: float) -> str:
    expression = SILENCE.sub(
        lambda found: f"{found.group(1)} {scaled(int(found.group(2)), factor, least_seconds=LEAST_SILENCE_SECONDS)}",
        expression,
    )
    for check in CHECKS:
        if check.unit == "seconds" and check.rule is not None:
            compared = check.rule.rpartition(" ")[0]
            age = scaled(check.threshold, factor, least_seconds=LEAST_AGE_SECONDS)
            expression = expression.replace(check.rule, f"{compared} {age}")
    return WINDOW.sub(lambda found: f"[{_window(found.group(1) + found.group(2), factor)}s]", expression)


def _window(duration: str, factor: float) -> int:
    return scaled(seconds(duration), factor, least_seconds=LEAST_WINDOW_SECONDS)


def write_rules(folder: Path, factor: float) -> list[Path]:
    """Write the rules for Prometheus; the files' paths."""
    written = []
    for name in FILES:
        rules = cast("dict[str, Any]", yaml.safe_load((FOLDER / name).read_text()))
        (file := folder / name).write_text(yaml.safe_dump(faster(rules, factor), sort_keys=False))
        written.append(file)
    return written
