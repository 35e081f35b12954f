"""A real Prometheus on the configuration and rules of deploy/prometheus; only targets and intervals are a test's."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import yaml

from tests.authority import TRUSTS_NOBODY
from tests.integration.processes import ROOT, stop, wait_until
from tests.servers import free_port

CONFIGURATION = ROOT / "deploy" / "prometheus" / "prometheus.yml"
PROGRAM, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
NEEDS_PROMETHEUS = pytest.mark.skipif(
    PROGRAM is None or PROMTOOL is None,
    reason="prometheus and promtool are not installed (Debian's package prometheus has both)",
)

Samples = dict[tuple[tuple[str, str], ...], list[tuple[float, float]]]
"""By labels: (Unix time, value)."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running one."""

    url: str

    def ask(self, path: str, **parameters: str | float) -> Any:
        """What its API answers under `data`. Raises AssertionError with its complaint about a wrong query."""
        answer = httpx.get(
            f"{self.url}/api/v1/{path}", params=parameters, trust_env=False, verify=TRUSTS_NOBODY, timeout=30
        )
        assert answer.is_success, answer.text
        return answer.json()["data"]

    def now(self, query: str) -> dict[tuple[tuple[str, str], ...], float]:
        """An instant query: value by labels."""
        result = self.ask("query", query=query)["result"]
        return {_labels(one["metric"]): float(one["value"][1]) for one in result}

    def over(self, query: str, *, since: float, until: float, step_seconds: float) -> Samples:
        """A range query; what is no number is left out."""
        data = self.ask("query_range", query=query, start=since, end=until, step=step_seconds)
        return {
            _labels(one["metric"]): points
            for one in data["result"]
            if (points := [(float(at), float(value)) for at, value in one["values"] if math.isfinite(float(value))])
        }

    def scraped(self) -> dict[str, str]:
        """Each target's health, by job and address."""
        targets = self.ask("targets", state="active")["activeTargets"]
        return {f"{one['labels']['job']} {one['labels']['instance']}": one["health"] for one in targets}

    def alerts(self) -> dict[str, str]:
        """The alerts that are pending or firing, with their state."""
        return {one["labels"]["alertname"]: one["state"] for one in self.ask("alerts")["alerts"]}

    def rules(self) -> list[dict[str, Any]]:
        """Every rule that it has loaded, with its health and last error."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def exemplars(self, query: str, *, since: float, until: float) -> list[dict[str, Any]]:
        """The exemplars of the series that the query names."""
        found = self.ask("query_exemplars", query=query, start=since, end=until)
        return [exemplar for series in found for exemplar in series["exemplars"]]


def _labels(metric: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(metric.items()))


@contextmanager
def prometheus(
    folder: Path,
    targets: Mapping[str, Sequence[str]],
    *,
    interval: str = "1s",
    rules: Sequence[Path] = (),
) -> Iterator[Prometheus]:
    """Scrape `targets`, addresses by job, as deploy/prometheus has it, with its rules or those given.

    Raises:
        AssertionError: when the jobs are not those of the configuration, or Prometheus does not start.
    """
    assert PROGRAM is not None
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(_configuration(targets, interval, rules)))
    port, log = free_port(), folder / "prometheus.log"
    command = [PROGRAM, f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage", "--log.level=warn"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        running = Prometheus(f"http://127.0.0.1:{port}")
        wait_until(lambda: process.poll() is not None or _ready(running.url), "answer of Prometheus")
        assert process.poll() is None, log.read_text()
        yield running
    finally:
        stop(process)


def _configuration(targets: Mapping[str, Sequence[str]], interval: str, rules: Sequence[Path]) -> dict[str, Any]:
    made = cast("dict[str, Any]", yaml.safe_load(CONFIGURATION.read_text()))
    made["global"] |= {"scrape_interval": interval, "evaluation_interval": interval, "scrape_timeout": interval}
    made["rule_files"] = [str(file) for file in rules or [CONFIGURATION.with_name(name) for name in made["rule_files"]]]
    assert {job["job_name"] for job in made["scrape_configs"]} == targets.keys()
    for job in made["scrape_configs"]:
        job["static_configs"] = [{"targets": list(targets[job["job_name"]])}]
    return made


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False, verify=TRUSTS_NOBODY).is_success
    except httpx.TransportError:
        return False
