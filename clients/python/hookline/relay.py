"""The relay of an outbox: sends its events in order, and deletes what Hookline has.

Any number of relays may run; one of them has the lease and works. What is sent is deleted by its number, not by an
offset: numbers are given before transactions commit, so a lower one may appear after a higher one.

The lease compares no clocks. Its holder counts `beats` up; another relay takes it over once it has seen no beat for
`lease_seconds` by its own clock. A holder that was suspended may send a batch that another one sends too: under the
same ids, so that it fires once.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import sqlalchemy as sa

from hookline import batches, outbox
from hookline.errors import Refused, Unreachable

if TYPE_CHECKING:
    from hookline.client import Client, OnError

log = logging.getLogger("hookline")
LEASE_SECONDS = 30.0
_ROW = "relay"
_HELD_SECONDS = 60.0
_MAX_REASON_CHARS = 2000
_AT_ONCE = 500
"""Numbers in one statement: databases bound its parameters."""


class Rows:
    """What is in an outbox."""

    def __init__(self, engine: sa.Engine, *, name: str = outbox.TABLE, schema: str | None = None) -> None:
        metadata = sa.MetaData()
        self._engine = engine
        self.table = outbox.table(metadata, name, schema=schema)
        self.lease_table = metadata.tables[f"{schema}.{name}_lease" if schema else f"{name}_lease"]

    def waiting(self) -> int:
        """How many events wait."""
        return self._count(self.table.c.parked_at.is_(None))

    def parked(self) -> list[tuple[int, str]]:
        """The numbers of parked events, the first thousand, each with the reason."""
        with self._engine.connect() as connection:
            found = connection.execute(
                sa.select(self.table.c.id, self.table.c.reason)
                .where(self.table.c.parked_at.is_not(None))
                .order_by(self.table.c.id)
                .limit(1000)
            )
            return [(row.id, row.reason or "") for row in found]

    def retry(self) -> int:
        """Have parked events wait again; how many."""
        with self._engine.begin() as connection:
            parked = self.table.c.parked_at.is_not(None)
            return connection.execute(sa.update(self.table).where(parked).values(parked_at=None, reason=None)).rowcount

    def _count(self, condition: sa.ColumnElement[bool]) -> int:
        with self._engine.connect() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(self.table).where(condition)).scalar_one()

    def first(self, count: int) -> list[tuple[int, bytes]]:
        """The first events that wait, each with its number."""
        with self._engine.connect() as connection:
            found = connection.execute(
                sa.select(self.table.c.id, self.table.c.event)
                .where(self.table.c.parked_at.is_(None))
                .order_by(self.table.c.id)
                .limit(count)
            )
            return [(row.id, bytes(row.event)) for row in found]

    def settle(self, sent: list[int], parked: dict[int, str]) -> None:
        """Delete what was sent, and park what was refused, with the reason."""
        with self._engine.begin() as connection:
            for start in range(0, len(sent), _AT_ONCE):
                some = sent[start : start + _AT_ONCE]
                connection.execute(sa.delete(self.table).where(self.table.c.id.in_(some)))
            for number, reason in parked.items():
                connection.execute(
                    sa.update(self.table)
                    .where(self.table.c.id == number)
                    .values(parked_at=datetime.now(timezone.utc), reason=reason[:_MAX_REASON_CHARS])
                )


class Relay:
    """Relays one outbox to one Hookline.

    `client` needs a `timeout_seconds` well below `lease_seconds`. `on_error` is told of events that Hookline refused,
    which are parked, and of an outage once when it begins.
    """

    def __init__(
        self,
        engine: sa.Engine,
        client: Client,
        *,
        name: str = outbox.TABLE,
        schema: str | None = None,
        every_seconds: float = 0.5,
        lease_seconds: float = LEASE_SECONDS,
        on_error: OnError | None = None,
    ) -> None:
        self.rows = Rows(engine, name=name, schema=schema)
        self._lease_table = self.rows.lease_table
        self._engine = engine
        self._client = client
        self._every_seconds = every_seconds
        self._lease_seconds = lease_seconds
        self._on_error = on_error
        self.accepted = 0
        """How many events Hookline took from this relay so far."""
        self._stopping = threading.Event()
        self._holder = f"{socket.gethostname()[:40]}-{os.getpid()}-{os.urandom(4).hex()}"
        self._beats: int | None = None
        """What this relay last wrote into the lease; None while it does not have it."""
        self._seen: tuple[str, int] | None = None
        self._seen_at = self._renewed_at = 0.0
        self._is_away = False

    def run(self) -> None:
        """Relay until `stop` is called, from any thread or a signal handler. Waits for a database that is away."""
        tries = 0
        while not self._stopping.is_set():
            wait_seconds = self._every_seconds
            try:
                if self.step():
                    wait_seconds = 0.0
                tries, self._is_away = 0, False
            except Unreachable as exc:
                tries += 1
                self._tell_once(exc)
                wait_seconds = min(batches.backoff_seconds(tries, exc), self._lease_seconds / 3)
            except Refused as exc:
                self._tell_once(exc)
                wait_seconds = min(_HELD_SECONDS, self._lease_seconds / 3)
            except sa.exc.SQLAlchemyError as exc:
                self._beats = None
                self._tell_once(exc)
                wait_seconds = 5.0
            self._stopping.wait(wait_seconds)
        self._give_up()

    def stop(self) -> None:
        """Have `run` return after its batch."""
        self._stopping.set()

    def drain(self) -> int:
        """Relay until nothing is left, and give the lease up; how many events were accepted.

        Raises:
            Unreachable, Refused: and the rest stays where it is.
            TimeoutError: when another relay has the lease and keeps it.
        """
        until = time.monotonic() + 2 * self._lease_seconds
        before = self.accepted
        try:
            while True:
                if self._has_lease():
                    if not self.step():
                        return self.accepted - before
                elif time.monotonic() > until:
                    raise TimeoutError("another relay has the lease, and works")
                else:
                    self._stopping.wait(min(self._every_seconds, 0.5))
        finally:
            self._give_up()

    def step(self) -> bool:
        """Relay one batch if this relay has the lease; whether there may be more. Raises as `drain` does."""
        if not self.rows.first(1):
            if time.monotonic() - self._renewed_at > self._lease_seconds / 3:
                self._has_lease()
            return False
        if not self._has_lease():
            return False
        rows = self.rows.first(batches.MAX_BATCH_EVENTS)
        batch = batches.cut(text for _, text in rows)[0] if rows else []
        outcome = self._client.publish_batch(batch)
        refused: dict[bytes, str] = {text: "; ".join(map(str, faults)) for text, faults in outcome.refusals}
        done = rows[: len(batch)]
        parked = {number: refused[text] for number, text in done if text in refused}
        self.accepted += outcome.accepted
        self.rows.settle([number for number, text in done if text not in refused], parked)
        if outcome.refusals:
            first = "; ".join(map(str, outcome.refusals[0][1]))
            self._tell(
                Refused(
                    f"{len(parked)} events of the outbox were refused, and are parked: {first}",
                    status=422,
                    refusals=outcome.refusals,
                    accepted=outcome.accepted,
                )
            )
        return True

    def _has_lease(self) -> bool:
        """Whether this relay has the lease, which it renews, or takes over from one that beats no more."""
        lease = self._lease_table.c
        with self._engine.begin() as connection:
            row = connection.execute(sa.select(lease.holder, lease.beats).where(lease.name == _ROW)).first()
            if row is None:
                return self._begin_lease(connection)
            found = (row.holder, int(row.beats))
            if found[0] != self._holder or found[1] != self._beats:
                self._beats = None
                if found != self._seen:
                    self._seen, self._seen_at = found, time.monotonic()
                if found[0] and time.monotonic() - self._seen_at < self._lease_seconds:
                    return False
            changed = connection.execute(
                sa.update(self._lease_table)
                .where(lease.name == _ROW, lease.holder == found[0], lease.beats == found[1])
                .values(holder=self._holder, beats=found[1] + 1)
            )
            has_it = changed.rowcount == 1
        self._beats = found[1] + 1 if has_it else None
        self._renewed_at = time.monotonic()
        return has_it

    def _begin_lease(self, connection: sa.Connection) -> bool:
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(self._lease_table).values(name=_ROW, holder=self._holder, beats=1))
        except sa.exc.IntegrityError:
            return False
        self._beats = 1
        return True

    def _give_up(self) -> None:
        """Let the next relay begin at once."""
        if self._beats is None:
            return
        lease = self._lease_table.c
        try:
            with self._engine.begin() as connection:
                connection.execute(
                    sa.update(self._lease_table)
                    .where(lease.name == _ROW, lease.holder == self._holder)
                    .values(holder="", beats=lease.beats + 1)
                )
        except sa.exc.SQLAlchemyError as exc:
            log.info("the lease ends by itself: %s", exc)
        self._beats = None

    def _tell_once(self, exc: Exception) -> None:
        if not self._is_away:
            self._is_away = True
            self._tell(exc)

    def _tell(self, exc: Exception) -> None:
        if self._on_error is None:
            log.warning("%s", exc)
        else:
            self._on_error(exc)
