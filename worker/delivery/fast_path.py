"""Deliveries sent by the process that makes them: claimed as they are stored, and on their way with the commit.

That saves the message, the claim and the reads of a drain. It is for the usual case: the webhook was sent to from this
process before and nobody edited anything since, its circuit is closed, nothing limits it, and there is room. Everything
else waits in the database for a drain, and so does what this process leaves when it is killed, once its lease is over.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from shared.delivery.endpoint import Endpoint
from shared.domain.errors import EndpointUnusable
from shared.messaging.celery_app import DELIVER_QUEUE, SLOW_QUEUE
from shared.observability.trace_context import TRACEPARENT
from shared.storage.database.transactions import read_transaction
from shared.storage.delivery.admission import needs_admission
from shared.storage.delivery.claims import ClaimedDelivery
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot, load_endpoint
from shared.storage.evaluation.new_deliveries import NewClaims
from shared.vault import SecretUnreadable
from worker.coordination.wakeups import give_back, wake
from worker.delivery.attempt_executor import AttemptExecutor
from worker.delivery.attempt_result import LONG_AGO, AttemptResult, ReleasedClaim
from worker.delivery.claims import MAX_SEND_DELAY_SECONDS, PREFETCH_MAX_PAYLOAD_CHARS, ClaimedBatch
from worker.delivery.endpoint_cache import KEPT_ENDPOINTS
from worker.delivery.recorder import OutcomeRecorder

if TYPE_CHECKING:
    from worker.bootstrap import WorkerProcess

OPENED_AT_ONCE = 20
"""Each takes a few statements, and the partition's next batch waits for them."""


class FastPathSession:
    """The way to one webhook as it is now: what was sent firsthand is recorded here."""

    def __init__(self, runtime: WorkerProcess, row: WebhookSnapshot, endpoint: Endpoint, token: int) -> None:
        self._runtime = runtime
        self._webhook_id = row.id
        self._token = token
        self.endpoint = endpoint
        self.webhook = endpoint.webhook
        self.leased_until = LONG_AGO
        self.is_brisk = False
        """Whether all went well when it was last heard of: then more may be claimed than is sent at once."""
        self._recorder = OutcomeRecorder(runtime, row, endpoint, token=token)
        self.slow = row.slow

    def see(self, row: WebhookSnapshot) -> None:
        """Go by the webhook's row as it was just read."""
        self.slow = row.slow
        self._recorder.see(row)

    def launch(self, claimed: Sequence[ClaimedDelivery], at: datetime, until: datetime) -> None:
        """Send what was claimed at a time, until another."""
        self.leased_until = until
        put = self._runtime.stragglers.expect(self, len(claimed))
        attempts = AttemptExecutor(self._runtime, self._webhook_id, self.endpoint, token=self._token, put=put)
        attempts.launch(ClaimedBatch(at, claimed))

    def finish(self, ended: list[AttemptResult]) -> None:
        """Record what has ended, and give its places to whoever found none."""
        try:
            fared = self._recorder.record(ended)
        finally:
            give_back(self._runtime, self._webhook_id, len(ended))
        self.is_brisk = fared.untroubled
        if any(isinstance(one, ReleasedClaim) for one in ended):
            wake(self._runtime, self._webhook_id, slow=fared.slow)


@dataclass(frozen=True, slots=True)
class Reservation:
    """What this process will send of a batch: of each webhook all or nothing. It holds their places until `launch`."""

    lines: Mapping[int, FastPathSession]
    counts: Mapping[int, int]
    claim: NewClaims
    at: datetime
    """When the lease began."""
    waiting: Collection[int] = ()
    """Slow webhooks that found no place: they need no drain before there is one."""


@dataclass(slots=True)
class FastPath:
    """Decides what a process sends firsthand, and sends it.

    `consumes` tells whether this worker takes part in what a queue is for: operators may keep that to other hosts.
    """

    runtime: WorkerProcess
    consumes: Callable[[str], bool]
    _token: int = field(default_factory=lambda: secrets.randbits(62))
    _lines: dict[int, FastPathSession] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, rows: Sequence[dict[str, Any]], webhooks: Mapping[int, WebhookSnapshot]) -> Reservation:
        """Take places for those of these new deliveries that can be sent at once.

        Args:
            rows: the deliveries that are about to be stored.
            webhooks: as this transaction read them.
        """
        at = self.runtime.clock.estimate()
        lines, counts, waiting = {}, {}, set()
        chars: Counter[int] = Counter()
        pending: Counter[int] = Counter()
        for row in rows:
            if row["status"] == "pending":
                pending[row["webhook_id"]] += 1
                chars[row["webhook_id"]] += len(row["payload"])
        for webhook_id, count in pending.items():
            line = self._line(webhooks.get(webhook_id))
            if line is None:
                continue
            ahead = line.is_brisk and chars[webhook_id] <= count * PREFETCH_MAX_PAYLOAD_CHARS
            if self.runtime.flights.take_all(webhook_id, count, slow=line.slow, ahead=ahead):
                lines[webhook_id], counts[webhook_id] = line, count
            elif line.slow and not self.runtime.flights.is_open(webhook_id, slow=True):
                waiting.add(webhook_id)
        longest = max((line.endpoint.policy.timeout_seconds for line in lines.values()), default=0.0)
        until = at + timedelta(seconds=longest + MAX_SEND_DELAY_SECONDS) + self.runtime.settings.lease_margin
        return Reservation(lines, counts, NewClaims(tuple(lines), self._token, until), at, waiting)

    def open(self, webhooks: Iterable[WebhookSnapshot]) -> None:
        """Open the endpoints of webhooks whose deliveries had to wait because they were not, for the next time.

        A drain opens them too, but maybe in another process: after an edit, until one of each webhook had come to each.
        """
        if not (self.consumes(DELIVER_QUEUE) or self.consumes(SLOW_QUEUE)):
            return
        closed = (one for one in webhooks if self.runtime.endpoints.kept(one) is None and not one.paused)
        # Those with a certificate are opened for each drain.
        plain = (one for one in closed if one.client_certificate_secret_id is None)
        for row in islice(plain, OPENED_AT_ONCE):
            with read_transaction(self.runtime.engine) as connection:
                fresh = load_endpoint(connection, row.id)
                if fresh is not None:
                    with suppress(SecretUnreadable, EndpointUnusable):  # its drain tells
                        self.runtime.endpoints.open(connection, fresh)

    def drop(self, hand: Reservation) -> None:
        """Give the places back: nothing of it was stored."""
        for webhook_id, count in hand.counts.items():
            give_back(self.runtime, webhook_id, count)

    def launch(
        self, hand: Reservation, rows: Sequence[dict[str, Any]], stored: Mapping[str, int], entities: Mapping[int, str]
    ) -> None:
        """Send what was taken and committed.

        Args:
            hand: from `take`.
            rows: the same deliveries.
            stored: the `seq` of those that were stored under the claim, by their ids.
            entities: the names of the deliveries' entities.
        """
        claimed: dict[int, list[ClaimedDelivery]] = {webhook_id: [] for webhook_id in hand.lines}
        for row in rows:
            if (seq := stored.get(row["id"])) is not None:
                claimed[row["webhook_id"]].append(
                    ClaimedDelivery(
                        seq=seq,
                        id=row["id"],
                        payload=row["payload"],
                        attempts=0,
                        event_received_at=row["event_received_at"],
                        due_at=row["created_at"],
                        automation_id=row["automation_id"],
                        entity=entities[row["entity_id"]],
                        event_id=row["event_id"],
                        event_source=row["event_source"],
                        event_type=row["event_type"],
                        traceparent=row.get(TRACEPARENT),
                    )
                )
        for webhook_id, several in claimed.items():
            missing = hand.counts[webhook_id] - len(several)
            if missing:  # what another evaluation had stored already
                give_back(self.runtime, webhook_id, missing)
            if several:
                hand.lines[webhook_id].launch(several, hand.at, hand.claim.lease_until)

    def _line(self, row: WebhookSnapshot | None) -> FastPathSession | None:
        """The line to a webhook that may be sent to just now, and whose endpoint this process has open."""
        if row is None or row.paused or not self.consumes(SLOW_QUEUE if row.slow else DELIVER_QUEUE):
            return None
        endpoint = self.runtime.endpoints.kept(row)
        if endpoint is None or needs_admission(endpoint.policy, row.circuit):
            return None
        with self._lock:
            line = self._lines.get(row.id)
            if line is None or line.endpoint is not endpoint:
                if len(self._lines) >= KEPT_ENDPOINTS:
                    self._lines = {}
                line = self._lines[row.id] = FastPathSession(self.runtime, row, endpoint, self._token)
        line.see(row)
        return line
