"""What is stored that firings depend on, read for a batch's matches. Must not change any of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import Connection

from shared.domain.conditions.run_starts import RunStarts
from shared.domain.conditions.windows import UnreadableState, WindowState
from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.events.partitioning import subject_key
from shared.domain.matching.compiled import CompiledAutomation, firing_id
from shared.domain.matching.firing_rules import AutomationState, state_keys
from shared.domain.matching.throttling import FiringState
from shared.messaging.streams import Entry
from shared.observability.logs import get_logger
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot, load_endpoints
from shared.storage.evaluation.new_deliveries import find_existing
from shared.storage.evaluation.windows import OF_RUNS, load_windows

log = get_logger("hookline.evaluate")

Match = tuple[Entry, AnyEvent, CompiledAutomation]


_T = TypeVar("_T")


class StaleAutomation(Exception):
    """Another worker evaluated with a newer edition of an automation: this one must look for edits first."""


def _decode_or_none(read: Callable[[bytes], _T], stored: bytes | None, row: Any) -> _T | None:
    """Decode a stored value. None says that there is nothing, or that it cannot be read: either way it begins anew.

    What cannot be read is logged and overwritten by the next save: a run without its window is better than a partition
    that stands still.
    """
    try:
        return None if stored is None else read(stored)
    except UnreadableState as exc:
        log.error("windows.unreadable", automation_id=row.automation_id, key=row.key, error=str(exc))
        return None


@dataclass(frozen=True, slots=True)
class StoredState:
    """What is stored that firings depend on, as of one transaction."""

    webhooks: Mapping[int, WebhookSnapshot]
    """Those of the matches' webhooks that are enabled."""
    seen: Collection[str] = ()
    """The deliveries that exist: their events were evaluated before."""
    kept: Mapping[tuple[int, str], AutomationState] = field(default_factory=dict)
    """What automations keep of earlier events, by automation and key. A plan moves these states on as it goes; the
    transaction in which they were read stores them."""
    starts: Mapping[str, RunStarts] = field(default_factory=dict)
    """The starts of the runs whose metrics are watched, by key, before this batch."""


@dataclass(frozen=True)
class MatchSet:
    """The matches of one batch in stream order, and what is asked of them more than once. It lives on one thread."""

    all: Sequence[Match]
    starts: Sequence[tuple[int, AnyEvent]] = ()
    """The events that say that a run starts, each with the number of matches that came before it."""

    @cached_property
    def ids(self) -> list[str]:
        """The delivery that each fires, if it does."""
        return [firing_id(automation.id, event) for _, event, automation in self.all]

    @cached_property
    def keys(self) -> set[tuple[int, str]]:
        """Under which keys automations may keep something about them."""
        return {(automation.id, key) for _, event, automation in self.all for key in state_keys(automation, event)}

    @cached_property
    def runs(self) -> set[str]:
        """The keys of runs whose starts matter: that start, or whose metrics are looked at."""
        started = {subject_key(event) for _, event in self.starts}
        return started | {subject_key(event) for _, event, automation in self.all if automation.conditions is not None}

    @cached_property
    def webhooks(self) -> set[int]:
        """The webhooks that they would send to."""
        return {automation.webhook_id for _, _, automation in self.all if automation.webhook_id is not None}

    @cached_property
    def epochs(self) -> dict[int, int]:
        """The epoch of each automation."""
        return {automation.id: automation.epoch for _, _, automation in self.all}


def load_stored(connection: Connection, matches: MatchSet, now: datetime) -> StoredState:
    """Read what firings depend on. The rows of what automations keep stay locked until the transaction ends.

    Windows are read first, since their locks come first in the order that transactions keep.

    Raises:
        StaleAutomation: when an automation was edited since these matches were found.
    """
    of_runs = {(OF_RUNS, key) for key in matches.runs}
    rows = load_windows(connection, sorted(matches.keys | of_runs), now) if matches.keys or of_runs else {}
    kept = {key: _read(rows.get(key), matches.epochs[key[0]]) for key in matches.keys}
    starts = {key[1]: _read_starts(rows[key]) for key in of_runs if key in rows}
    seen = find_existing(connection, matches.ids)
    return StoredState(load_endpoints(connection, matches.webhooks), seen, kept, starts)


def _read_starts(row: Any) -> RunStarts:
    return _decode_or_none(RunStarts.from_bytes, row.windows, row) or RunStarts()


def _read(row: Any, epoch: int) -> AutomationState:
    if row is not None and row.epoch > epoch:
        raise StaleAutomation
    if row is None or row.epoch < epoch:
        return AutomationState()
    windows = _decode_or_none(WindowState.from_bytes, row.windows, row)
    recent = _decode_or_none(FiringState.recent_from_bytes, row.recent_firings, row) or ()
    return AutomationState(windows, FiringState(row.last_fired_ms, recent))
