"""Windows and cooldowns as they are stored, read for a batch's matches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import Connection

from shared.domain.conditions.windows import RunState, UnreadableState
from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.matching.compiled import CompiledAutomation, firing_id
from shared.domain.matching.firing_rules import Kept, kept_keys
from shared.domain.matching.throttling import FiringState
from shared.messaging.streams import Entry
from shared.observability.logs import get_logger
from shared.storage.delivery.webhook_snapshots import EndpointRow, load_endpoints
from shared.storage.evaluation.new_deliveries import known_deliveries
from shared.storage.evaluation.windows import load_windows

log = get_logger("hookline.evaluate")

Match = tuple[Entry, AnyEvent, CompiledAutomation]


_T = TypeVar("_T")


class Outdated(Exception):
    """Another worker evaluated with a newer edition of an automation: this one must look for edits first."""


def _readable(read: Callable[[bytes], _T], stored: bytes | None, row: Any) -> _T | None:
    """What was stored; None when there is nothing, and when it can't be read: then it begins anew."""
    try:
        return None if stored is None else read(stored)
    except UnreadableState as exc:
        log.error("windows.unreadable", automation_id=row.automation_id, key=row.key, error=str(exc))
        return None


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored that firings depend on."""

    webhooks: Mapping[int, EndpointRow]
    """Those of the matches' webhooks that are enabled."""
    seen: Collection[str] = ()
    """The deliveries that exist: their events were evaluated before."""
    kept: Mapping[tuple[int, str], Kept] = field(default_factory=dict)
    """What automations keep of earlier events, by automation and key."""


@dataclass(frozen=True)
class Matches:
    """The matches of one batch in stream order, and what is asked of them more than once."""

    all: Sequence[Match]

    @cached_property
    def ids(self) -> list[str]:
        """The delivery that each fires, if it does."""
        return [firing_id(automation.id, event) for _, event, automation in self.all]

    @cached_property
    def keys(self) -> set[tuple[int, str]]:
        """Under which keys automations may keep something about them."""
        return {(automation.id, key) for _, event, automation in self.all for key in kept_keys(automation, event)}

    @cached_property
    def webhooks(self) -> set[int]:
        """The webhooks that they would send to."""
        return {automation.webhook_id for _, _, automation in self.all if automation.webhook_id is not None}

    @cached_property
    def epochs(self) -> dict[int, int]:
        """The epoch of each automation."""
        return {automation.id: automation.epoch for _, _, automation in self.all}


def load_stored(connection: Connection, matches: Matches, now: datetime) -> Stored:
    """What this transaction has stored. The rows of what automations keep stay locked until it ends.

    Raises:
        Outdated: when an automation was edited since these matches were found.
    """
    kept = _load_kept(connection, matches, now)
    seen = known_deliveries(connection, matches.ids)
    return Stored(load_endpoints(connection, matches.webhooks), seen, kept)


def _load_kept(connection: Connection, matches: Matches, now: datetime) -> dict[tuple[int, str], Kept]:
    if not matches.keys:
        return {}
    rows = load_windows(connection, sorted(matches.keys), now)
    return {key: _read(rows.get(key), matches.epochs[key[0]]) for key in matches.keys}


def _read(row: Any, epoch: int) -> Kept:
    if row is not None and row.epoch > epoch:
        raise Outdated
    if row is None or row.epoch < epoch:
        return Kept()
    windows = _readable(RunState.from_bytes, row.windows, row)
    recent = _readable(FiringState.recent_from_bytes, row.recent_firings, row) or ()
    return Kept(windows, FiringState(row.last_fired_ms, recent))
