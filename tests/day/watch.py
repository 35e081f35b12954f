"""Watches which alerts fire, and tells of each whose harm it is, or that it is nobody's: a false alert."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.monitoring.prometheus import Prometheus

LOOK_SECONDS = 0.5

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Episode:
    """An alert fired from one moment to another, by the monotonic clock."""

    alert: str
    labels: Labels
    began: float
    ended: float | None = None
    """None while it fires."""

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self.labels)
        return f"{self.alert}({shown})" if shown else self.alert


@dataclass(slots=True)
class Harm:
    """What a hurt did and when: alerts that it must raise, and those that it may."""

    name: str
    must: tuple[str, ...]
    may: frozenset[str]
    began: float
    healed: float = float("inf")
    later_seconds: float = 0.0
    """For so long after it was healed it may still raise its alerts."""

    def explains(self, episode: Episode) -> bool:
        """Whether an alert that began to fire then is this harm's."""
        named = episode.alert in self.must or episode.alert in self.may
        return named and self.began <= episode.began <= self.healed + self.later_seconds


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    harm: str
    alert: str
    page_seconds: float | None
    """From the hurt to the alert; None: it never fired."""
    clear_seconds: float | None
    """From the healing to the alert's end; None: it still fired at the end of the day."""
    ended_early: bool
    """Whether the alert ended, for good, while the harm lasted."""


def owner(episode: Episode, harms: Iterable[Harm]) -> Harm | None:
    """The harm that an alert is of: one that must raise it before one that may, and the last of several."""
    explaining = (harm for harm in harms if harm.explains(episode))
    return max(explaining, key=lambda harm: (episode.alert in harm.must, harm.began), default=None)


def rows_of(harm: Harm, harms: Sequence[Harm], episodes: Iterable[Episode]) -> list[Row]:
    """What came of a harm's alerts. Each may fire for several things, such as queues: the first and the last count."""
    own = [one for one in episodes if owner(one, harms) is harm]
    rows = []
    for alert in harm.must:
        fired = [one for one in own if one.alert == alert]
        if not fired:
            rows.append(Row(harm.name, alert, None, None, ended_early=False))
            continue
        page = min(one.began for one in fired) - harm.began
        ends = [one.ended for one in fired if one.ended is not None]
        clear = max(ends) - harm.healed if len(ends) == len(fired) else None
        rows.append(Row(harm.name, alert, page, clear, ended_early=clear is not None and clear < -LOOK_SECONDS))
    return rows


def false_alerts(harms: Sequence[Harm], episodes: Iterable[Episode]) -> list[Episode]:
    """The episodes that no harm explains."""
    return [one for one in episodes if owner(one, harms) is None]


@dataclass
class Watch:
    """Asks Prometheus twice a second, in a thread of its own, from `start` until `stop`."""

    server: Prometheus
    episodes: list[Episode] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def firing(self) -> set[str]:
        """The alerts that fire now."""
        return {one.alert for one in list(self.episodes) if one.ended is None}

    def _run(self) -> None:
        while not self._ending.wait(LOOK_SECONDS):
            try:
                self._look(self.server.ask("alerts")["alerts"])
            except httpx.TransportError:
                continue  # a busy machine; who waits for an alert has a deadline

    def _look(self, alerts: Iterable[dict[str, Any]]) -> None:
        now = time.monotonic()
        found = {_key(one["labels"]) for one in alerts if one["state"] == "firing"}
        known = {(one.alert, one.labels): one for one in self.episodes if one.ended is None}
        for key in found - known.keys():
            self.episodes.append(Episode(*key, began=now))
        for key in known.keys() - found:
            known[key].ended = now


def _key(labels: dict[str, str]) -> tuple[str, Labels]:
    rest = {name: value for name, value in labels.items() if name not in ("alertname", "severity")}
    return labels["alertname"], tuple(sorted(rest.items()))
