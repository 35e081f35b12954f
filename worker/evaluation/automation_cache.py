"""The automations that a worker process knows, kept up to date by revision. Must not decide what fires."""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import orjson
from sqlalchemy import Engine

from shared.domain.automations.model import Grants, WebhookAction
from shared.domain.automations.parsing import parse_automation
from shared.domain.errors import InvalidDefinition
from shared.domain.events.types import EventType
from shared.domain.matching.compiled import CompiledAutomation, LazyAutomation, compile_automation, scope_key
from shared.domain.matching.index import AutomationIndex, organizations_above
from shared.observability import metrics
from shared.observability.logs import get_logger
from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.entities import organization_links
from shared.storage.definitions.revisions import current_revision_value
from shared.storage.evaluation.automation_feed import AutomationRow, automations_since
from worker.evaluation.compression import compress, decompress

log = get_logger("hookline.evaluate")


MAX_SHARE = 0.2
"""How much of the time edits may take that are told: whoever edits all the time must not stop evaluation."""


class AutomationCache:
    """The index of automations. Whoever asks for it sees every edit that is older than the reload interval, or told.

    Threads of evaluations share it. `_lock` guards all attributes below it, also while edits are read: the others wait
    for it, since they would read the same. An index that was handed out takes no edits: they go into a
    copy, so a thread goes on with what it had and nobody sees half of an edit.
    """

    def __init__(
        self,
        engine: Engine,
        reload_interval_seconds: float,
        *,
        on_unreadable: Callable[[LazyAutomation, InvalidDefinition], None],
        reloads: Callable[[], int] = lambda: 0,
    ) -> None:
        """Read nothing yet: the first look does.

        Args:
            engine: the database's.
            reload_interval_seconds: how long an edit may stay unseen.
            on_unreadable: told of each automation that this version cannot read, when events come to its scope.
            reloads: a number that changes when somebody asks for all automations to be read anew.
        """
        self._engine = engine
        self._interval_seconds = reload_interval_seconds
        self._on_unreadable = on_unreadable
        self._reloads = reloads
        self._reloaded = reloads()
        self._lock = threading.Lock()
        self._index = AutomationIndex(on_unreadable)
        self._revision = -1
        """The newest revision that the index holds; below zero before the first look."""
        self._checked = float("-inf")
        """When edits were looked for last, by the monotonic clock."""
        self._told: bytes | None = None
        """Of which edit was told when they were looked for last."""
        self._rests_until = float("-inf")
        """Until when nobody looks for an edit only because it was told."""

    def current(self, told: bytes | None = None) -> AutomationIndex:
        """The index, refreshed if the last look was longer ago than the reload interval, or an edit is told.

        Args:
            told: the revision of an edit that is committed, which the index then has.

        Raises:
            SQLAlchemyError: when it is time to look and the database is away.
        """
        with self._lock:
            if self._reloaded != (asked := self._reloads()):
                self._reloaded = asked
                self._reset()
            # Another one and not only a higher one: a database that was restored counts from lower again.
            if told is not None and told != self._told:
                time.sleep(max(0.0, self._rests_until - time.monotonic()))
                self._look(told)
            elif time.monotonic() - self._checked >= self._interval_seconds:
                self._look(self._told)
            return self._index

    def _look(self, told: bytes | None) -> None:
        began = time.monotonic()
        self._refresh()
        self._checked, self._told = time.monotonic(), told
        self._rests_until = self._checked + (self._checked - began) * (1 / MAX_SHARE - 1)

    def invalidate(self) -> None:
        """Look for edits when next asked, whatever the interval."""
        with self._lock:
            self._checked = float("-inf")

    def _reset(self) -> None:
        """Have the next look read and compile all of them anew, whatever their revisions."""
        self._index, self._revision, self._checked = AutomationIndex(self._on_unreadable), -1, float("-inf")

    def _refresh(self) -> None:
        with read_transaction(self._engine) as connection:
            # The counter is read first: an edit that commits in between is read now and once more at the next look.
            newest = current_revision_value(connection)
            if newest == self._revision:
                return
            with metrics.RELOAD_SECONDS.time():
                rows = automations_since(connection, self._revision)
                parents = {link.name: link.parent for link in organization_links(connection)}
                self._take(rows, parents)
        if self._revision < 0:
            # What was loaded stays: the collector need not look through all of it again and again.
            gc.collect()
            gc.freeze()
        self._revision = newest
        metrics.AUTOMATIONS_LOADED.set(len(self._index))

    def _take(self, rows: Iterable[AutomationRow], parents: dict[str, str]) -> None:
        # Other threads iterate the index they hold: edits go into a copy that then takes its place.
        index = self._index.copy()
        index.set_organizations(organizations_above(parents))
        for row in rows:
            if not row.live:
                index.drop(row.id)
                continue
            dormant, known = _dormant(row), index.known(row.id)
            # An edit of a webhook has all its automations read again; those that are as before stay as they are.
            if not isinstance(known, LazyAutomation) or known.text != dormant.text:
                index.put(dormant)
        self._index = index


def _dormant(row: AutomationRow) -> LazyAutomation:
    # Names repeat: each is kept once.
    entity, project = sys.intern(row.entity), row.scope_project and sys.intern(row.scope_project)
    key = scope_key(EventType(row.event_type), entity, project, row.scope_collection)
    about = (row.id, row.entity_id, row.epoch, row.webhook_id, sorted(row.grants), row.has_access_token, row.entity)
    text = compress(orjson.dumps(about)[:-1] + b"," + row.definition.encode() + b"]")
    return LazyAutomation(row.id, key, text, _compile)


def _compile(packed: bytes) -> CompiledAutomation:
    # Payloads may hold integers of any size, which orjson would read as fractions.
    text = decompress(packed)
    number, entity_id, epoch, webhook_id, secrets, has_access_token, entity, definition = json.loads(text)
    grants = Grants(frozenset(secrets), has_access_token)
    automation = parse_automation(definition, lambda _webhook: grants, lambda _slack: True)
    if isinstance(automation.action, WebhookAction):
        # The template has what is sent. The payload that it was cut from may take many times as much.
        automation = replace(automation, action=replace(automation.action, payload=None))
    return compile_automation(
        automation,
        automation_id=number,
        entity_id=entity_id,
        entity=entity,
        epoch=epoch,
        webhook_id=webhook_id,
        definition_bytes=len(text),
    )
