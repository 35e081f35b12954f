"""Endpoints that are open: their secrets decrypted, kept until their webhook or one of its secrets changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from sqlalchemy import Connection, Engine

from shared.delivery.endpoint import Endpoint, open_endpoint
from shared.domain.delivery.circuits import CircuitState
from shared.domain.errors import EndpointUnusable
from shared.http.tls import TlsContexts
from shared.observability import metrics
from shared.observability.logs import get_logger
from shared.storage.database.clock import DatabaseClock
from shared.storage.database.transactions import read_statement, read_transaction
from shared.storage.definitions.webhook_fields import public_id
from shared.storage.delivery.webhook_snapshots import (
    SealedSecrets,
    WebhookSnapshot,
    load_endpoints,
    load_secrets,
    load_secrets_of,
)
from shared.storage.delivery.webhook_states import webhook_names
from shared.vault import SecretUnreadable, Vault

log = get_logger("hookline.deliver")

KEPT_ENDPOINTS = 20_000
"""A process keeps this many open, at two or three kilobytes each; then it begins anew, and opens what it needs again,
many at a time."""
WARMED_AT_A_TIME = 200
"""Each takes about 100 µs, and the partition's next batch waits for them. At twice as many it waits twice as long; at
half, more webhooks wait for another event before the fast path takes them after an edit."""

Opened = tuple[WebhookSnapshot, Endpoint]


class EndpointCache:
    """The endpoints that a process sends to, kept open from drain to drain until an edit concerns them.

    Those with a client certificate are opened for each drain, with a context that `TlsContexts` keeps.
    """

    def __init__(self, *, engine: Engine, clock: DatabaseClock, vault: Vault, contexts: TlsContexts) -> None:
        self._engine = engine
        self._clock = clock
        self._vault = vault
        self._contexts = contexts
        self._open: dict[int, tuple[int, Endpoint]] = {}
        """By webhook, each with the edition of which it was opened. The threads of drains and evaluations read and
        write it without a lock: single operations of a dict are atomic, an entry is never changed, and of two threads
        that open the same endpoint either result serves."""

    def get(self, snapshot: WebhookSnapshot) -> Endpoint | None:
        """The endpoint of a webhook; None where it is not open, or was edited since it was opened."""
        edition, endpoint = self._open.get(snapshot.id, (None, None))
        # Every edit of a webhook or a secret takes the next revision, and commits with it.
        return endpoint if edition == snapshot.edition else None

    def open(self, connection: Connection, snapshot: WebhookSnapshot) -> Endpoint:
        """The endpoint of a webhook that this transaction read.

        Raises:
            SecretUnreadable, EndpointUnusable: as `open_endpoint`.
        """
        return self.get(snapshot) or self._open_with(snapshot, load_secrets(connection, snapshot))

    def open_webhook(self, webhook_id: int) -> Opened | None:
        """A webhook as it is stored now, and its endpoint. None as `open_webhooks` leaves it out."""
        return self.open_webhooks([webhook_id]).get(webhook_id)

    def open_webhooks(self, webhook_ids: Collection[int]) -> dict[int, Opened]:
        """Webhooks as they are stored now, with their endpoints, by their ids.

        Left out are those to which nothing may be sent: they are disabled, paused, deleted or their circuit is open;
        and those to which nothing can be, which is logged. Their deliveries stay due.
        """
        now = self._clock.now()
        with read_statement(self._engine) as connection:
            snapshots = load_endpoints(connection, webhook_ids)
        wanted = [one for one in snapshots.values() if not one.paused]
        wanted = [one for one in wanted if one.circuit.state(now) is not CircuitState.OPEN]
        opened = {one.id: (one, kept) for one in wanted if (kept := self.get(one)) is not None}
        closed = [one.id for one in wanted if one.id not in opened]
        return opened | self._open_closed(closed, reported=True) if closed else opened

    def warm_up(self, snapshots: Iterable[WebhookSnapshot]) -> None:
        """Open those of these webhooks' endpoints that are not open, for the next time.

        A drain opens them too, but maybe in another process: after an edit, until one of each webhook had come to each.
        """
        closed = (one for one in snapshots if self.get(one) is None and not one.paused)
        # Those with a certificate are opened for each drain.
        plain = (one.id for one in closed if one.client_certificate_secret_id is None)
        if ids := list(islice(plain, WARMED_AT_A_TIME)):
            self._open_closed(ids, reported=False)  # their drains report those that can't be used

    def _open_closed(self, webhook_ids: Collection[int], *, reported: bool) -> dict[int, Opened]:
        """Open endpoints. Webhooks are read again together with their secrets: both must be of one snapshot."""
        with read_transaction(self._engine) as connection:
            snapshots = [one for one in load_endpoints(connection, webhook_ids).values() if not one.paused]
            secrets = load_secrets_of(connection, snapshots)
        opened = {}
        unusable: list[tuple[WebhookSnapshot, str, str]] = []
        for snapshot in snapshots:
            try:
                opened[snapshot.id] = snapshot, self._open_with(snapshot, secrets[snapshot.id])
            except SecretUnreadable as exc:
                if reported:
                    metrics.SECRETS_UNREADABLE.inc()
                    # Ours to mend, not the receiver's: the deliveries stay due until the key is back.
                    unusable.append((snapshot, "webhook.secret_unreadable", str(exc)))
            except EndpointUnusable as exc:
                if reported:
                    metrics.WEBHOOKS_UNUSABLE.inc()
                    unusable.append((snapshot, "webhook.unusable", str(exc)))
        if unusable:
            self._report(unusable)
        return opened

    def _report(self, unusable: Sequence[tuple[WebhookSnapshot, str, str]]) -> None:
        with read_statement(self._engine) as connection:
            named = {one.id: one for one in webhook_names(connection, ids=[one.id for one, _, _ in unusable])}
        for snapshot, event, error in unusable:
            of = named.get(snapshot.id)
            names = {} if of is None else {"entity": of.entity, "webhook": of.name}
            log.error(event, webhook_id=public_id(snapshot.kind, snapshot.id), **names, error=error)

    def _open_with(self, snapshot: WebhookSnapshot, secrets: SealedSecrets) -> Endpoint:
        endpoint = open_endpoint(snapshot, secrets, self._vault, self._contexts)
        if endpoint.tls is not None:
            return endpoint  # kept here, more of the large contexts would stay than `TlsContexts` lets
        if len(self._open) >= KEPT_ENDPOINTS:
            self._open = {}
        self._open[snapshot.id] = snapshot.edition, endpoint
        return endpoint
