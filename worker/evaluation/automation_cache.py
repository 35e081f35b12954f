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
from shared.domain.automations.parsing import parse_automation, parse_test
from shared.domain.errors import InvalidDefinition
from shared.domain.events.types import EventType
from shared.domain.filters.clues import Cover
from shared.domain.matching.compiled import (
    CompiledAutomation,
    LazyAutomation,
    TextReader,
    compile_automation,
    covers_of,
    scope_key,
)
from shared.domain.matching.index import AutomationIndex, organizations_above
from shared.observability import metrics
from shared.observability.logs import get_logger
from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.entities import organization_links
from shared.storage.definitions.revisions import current_revision_value
from shared.storage.evaluation.automation_feed import AutomationRow, automations_since
from worker.evaluation.compression import compress, decompress

log = get_logger("hookline.evaluate")


MAX_RELOAD_SHARE = 0.2
"""The largest share of a core that reloads because of announced edits may take, so that edits without end do not stop
evaluation. The time for which the database works counts for nothing: all evaluations wait meanwhile, whosever events
they have, and would wait four times as long again."""


class AutomationCache:
    """The index of automations. It has every edit that is older than the reload interval, and every announced one.

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
        """Read nothing yet: the first refresh does.

        Args:
            engine: the database's.
            reload_interval_seconds: how long an edit may stay unseen.
            on_unreadable: called with each automation that this version cannot read, when events come to its scope.
            reloads: a number that changes when somebody asks for all automations to be read anew.
        """
        self._engine = engine
        self._interval_seconds = reload_interval_seconds
        self._on_unreadable = on_unreadable
        self._reloads = reloads
        self._reloads_done = reloads()
        self._lock = threading.Lock()
        self._index = AutomationIndex(on_unreadable)
        self._revision = -1
        """The newest revision that the index holds; below zero before the first refresh."""
        self._refreshed_at = float("-inf")
        """When edits were read last, by the monotonic clock."""
        self._announced_revision: bytes | None = None
        """The announced edit that the last refresh took in."""
        self._earliest_announced_refresh = float("-inf")
        """When edits may be read again only because one was announced, by the monotonic clock."""

    def current(self, announced_revision: bytes | None = None) -> AutomationIndex:
        """The index, refreshed if the last refresh is older than the reload interval, or an edit was announced since.

        Args:
            announced_revision: the revision of a committed edit, which the index then has.

        Raises:
            SQLAlchemyError: when it is time to refresh and the database is away.
        """
        with self._lock:
            if self._reloads_done != (asked := self._reloads()):
                self._reloads_done = asked
                self._reset()
            if announced_revision is not None and not self._has(announced_revision):
                time.sleep(max(0.0, self._earliest_announced_refresh - time.monotonic()))
                self._refresh_to(announced_revision)
            elif time.monotonic() - self._refreshed_at >= self._interval_seconds:
                self._refresh_to(self._announced_revision)
            return self._index

    def _has(self, announced_revision: bytes) -> bool:
        """Whether the index has this announced edit: the last refresh was for it, or came after it.

        An edit that is not later than the last one that was announced is always looked for: a database that was
        restored counts from lower again.
        """
        last = self._announced_revision
        if last is not None and last != announced_revision and int(last) < int(announced_revision) <= self._revision:
            self._announced_revision = announced_revision
        return announced_revision == self._announced_revision

    def _refresh_to(self, announced_revision: bytes | None) -> None:
        began = time.thread_time()
        self._refresh()
        self._refreshed_at, self._announced_revision = time.monotonic(), announced_revision
        seconds = time.thread_time() - began
        self._earliest_announced_refresh = self._refreshed_at + seconds * (1 / MAX_RELOAD_SHARE - 1)

    def invalidate(self) -> None:
        """Read edits when the index is next asked for, whatever the interval."""
        with self._lock:
            self._refreshed_at = float("-inf")

    def _reset(self) -> None:
        """Have the next refresh read and compile all automations, whatever their revisions."""
        self._index, self._revision, self._refreshed_at = AutomationIndex(self._on_unreadable), -1, float("-inf")

    def _refresh(self) -> None:
        with read_transaction(self._engine) as connection:
            # The counter is read first: an edit that commits in between is read now and once more at the next refresh.
            newest = current_revision_value(connection)
            if newest == self._revision:
                return
            with metrics.RELOAD_SECONDS.time():
                rows = automations_since(connection, self._revision)
                parents = {link.name: link.parent for link in organization_links(connection)}
                self._apply(rows, parents)
        if self._revision < 0:
            # What was loaded stays: the collector need not look through all of it again and again.
            gc.collect()
            gc.freeze()
        self._revision = newest
        metrics.AUTOMATIONS_LOADED.set(len(self._index))

    def _apply(self, rows: Iterable[AutomationRow], parents: dict[str, str]) -> None:
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
    return LazyAutomation(row.id, key, text, _READER)


def _compile(packed: bytes) -> CompiledAutomation:
    # Payloads may hold integers of any size, which orjson would read as fractions.
    text = decompress(packed)
    number, entity_id, epoch, webhook_id, secrets, has_access_token, entity, definition = json.loads(text)
    # Nothing that is evaluated reads it, and thousands of characters of it would keep others from being remembered.
    description = definition.pop("description", None) or ""
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
        definition_bytes=len(text) - len(description.encode()),
    )


def _covers(packed: bytes) -> tuple[Cover, ...]:
    """The covers alone: a project of 30,000 automations is looked up by them, and few of those are ever compiled."""
    return covers_of(*parse_test(json.loads(decompress(packed))[-1]))


_READER = TextReader(_compile, _covers)
