"""Records what a healthy installation exposes, as an hour for promtool: `python -m tests.day.quiet`.

Only the series that the rules ask for are kept. What was recorded is played again and again until the hour is full:
counters go on from where they were, gauges begin anew.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import yaml

from tests.day.installation import installation
from tests.day.rules import FILES, FOLDER, SCRAPE_SECONDS
from tests.day.traffic import STEADY_RATE
from tests.faults.stage import end_in_order
from tests.integration.processes import wait_until
from tests.monitoring.prometheus import Prometheus, prometheus

FILE = FOLDER / "tests_of_a_quiet_hour.yml"
HOUR_SECONDS = 3600
NAMES = re.compile(r"\b(?:hookline_\w+|process_\w+_fds|up)\b")
BUCKETS = re.compile(r'\ble="([^"]+)"')
TIMES = "hookline_pump_last_sweep_timestamp_seconds"
"""A time, which promtool counts from 0."""
LAG = "count(hookline:evaluation_lag_seconds:max)"
HEAD = """\
# What a healthy installation with {rate:g} events a second exposed in {minutes:.0f} minutes, played until an hour is
# full. No alert may fire. Written by `python -m tests.day.quiet`; not edited.
"""
GROUPS = [
    "hookline-objective-rules",
    "hookline-state-rules",
    "hookline-objectives",
    "hookline-backlog",
    "hookline-deliveries",
    "hookline-parts",
]


def asked_for() -> set[str]:
    """The names of the series that the rules ask for."""
    return {name for expression in _expressions() for name in NAMES.findall(expression)}


def _expressions() -> list[str]:
    groups = (group for name in FILES for group in yaml.safe_load((FOLDER / name).read_text())["groups"])
    return [rule["expr"] for group in groups for rule in group["rules"]]


def hour(values: Sequence[float], *, counter: bool) -> list[float]:
    """As many values as an hour has, by playing these again: a counter goes on by what it grew."""
    wanted = HOUR_SECONDS // SCRAPE_SECONDS + 1
    played: list[float] = []
    steps = len(values) - 1
    grown = (values[-1] - values[0]) * len(values) / steps if counter else 0.0  # also from the last to the first
    while len(played) < wanted:
        played += [value + grown * (len(played) // len(values)) for value in values]
    return played[:wanted]


def notation(values: Iterable[float]) -> str:
    """Values as promtool reads them, equal ones together."""
    parts = []
    for value, same in groupby(round(one, 3) for one in values):
        count = len(list(same))
        parts.append(f"{value:.12g}" if count == 1 else f"{value:.12g}x{count - 1}")
    return " ".join(parts)


def recorded(server: Prometheus, *, since: float, until: float) -> list[dict[str, str]]:
    """The series, as promtool reads them."""
    series = []
    buckets = {bound for expression in _expressions() for bound in BUCKETS.findall(expression)}
    for name in sorted(asked_for()):
        counter = name.endswith(("_total", "_bucket", "_count"))
        for labels, points in server.over(name, since=since, until=until, step_seconds=SCRAPE_SECONDS).items():
            shown = {key: value for key, value in labels if key != "__name__"}
            if not {shown.get("le", "")} <= {"", *buckets}:
                continue
            if counter and not any(value for _at, value in points):
                points = [(at, 0.0) for at, _value in points]
            values = hour([value for _at, value in points], counter=counter or name == TIMES)
            if name == TIMES:
                values = [value - since for value in values]
            written = ", ".join(f'{key}="{value}"' for key, value in shown.items())
            series.append({"series": f"{name}{{{written}}}", "values": notation(values)})
    return series


def main() -> int:
    """Record, and write the file."""
    parser = argparse.ArgumentParser(prog="python -m tests.day.quiet", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long to record (default 60)")
    options = parser.parse_args()
    end_in_order()
    with (
        tempfile.TemporaryDirectory(prefix="hookline-quiet-") as folder,
        installation(Path(folder), 1) as running,
        prometheus(Path(folder), running.targets(), interval=f"{SCRAPE_SECONDS}s") as server,
    ):
        wait_until(lambda: set(server.scraped().values()) == {"up"}, "scrape of every part", seconds=120)
        time.sleep(2 * SCRAPE_SECONDS)  # a gauge is counted every five seconds
        since = time.time()
        time.sleep(options.minutes * 60)
        series = recorded(server, since=since, until=time.time())
        fired = server.now(f"count_over_time(ALERTS{{alertstate='firing'}}[{round(options.minutes * 60)}s])")
    print("fired while it was recorded:", sorted(dict(labels)["alertname"] for labels in fired) or "nothing")
    test = {
        "name": "a quiet hour",
        "interval": f"{SCRAPE_SECONDS}s",
        "input_series": series,
        "promql_expr_test": [
            {"expr": 'count_over_time(ALERTS{alertstate="firing"}[1h])', "eval_time": "1h", "exp_samples": []},
            {
                "expr": "count(hookline:evaluation_lag_seconds:max)",
                "eval_time": "1h",
                "exp_samples": [{"labels": "{}", "value": 1}],
            },
        ],
    }
    document = {
        "rule_files": list(FILES),
        "evaluation_interval": f"{SCRAPE_SECONDS}s",
        "group_eval_order": GROUPS,
        "tests": [test],
    }
    text = yaml.safe_dump(document, sort_keys=False, width=2**20)
    FILE.write_text(HEAD.format(rate=STEADY_RATE, minutes=options.minutes) + text)
    return 1 if fired else 0


if __name__ == "__main__":
    sys.exit(main())
