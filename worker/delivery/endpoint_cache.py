"""Endpoints that are open: their secrets decrypted, kept until any webhook or secret changes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
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
from shared.storage.definitions.webhooks import public_id
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot, load_endpoint, load_secrets
from shared.vault import SecretUnreadable, Vault

log = get_logger("hookline.deliver")

KEPT_ENDPOINTS = 20_000
"""A process keeps this many open, at two or three kilobytes each; then it begins anew, and opens what it needs again,
many at a time."""
WARMED_AT_A_TIME = 20
"""Each takes a few statements, and the partition's next batch waits for them. At twice as many it waits twice as long;
at half, more webhooks wait for another event before the fast path takes them after an edit."""


class EndpointCache:
    """The endpoints that a process sends to, kept open from drain to drain until anything is edited.

    Those with a client certificate are opened for each drain, with a context that `TlsContexts` keeps.
    """

    def __init__(self, *, engine: Engine, clock: DatabaseClock, vault: Vault, contexts: TlsContexts) -> None:
        self._engine = engine
        self._clock = clock
        self._vault = vault
        self._contexts = contexts
        self._open: dict[int, tuple[int, Endpoint]] = {}
        """By webhook, each with the revision as of which it was opened. The threads of drains and evaluations read and
        write it without a lock: single operations of a dict are atomic, an entry is never changed, and of two threads
        that open the same endpoint either result serves."""

    def get(self, snapshot: WebhookSnapshot) -> Endpoint | None:
        """The endpoint of a webhook; None where it is not open, or something was edited since it was opened."""
        revision, endpoint = self._open.get(snapshot.id, (None, None))
        # Every edit of a webhook or a secret takes the next revision, and commits with it.
        return endpoint if revision == snapshot.revision else None

    def open(self, connection: Connection, snapshot: WebhookSnapshot) -> Endpoint:
        """The endpoint of a webhook that this transaction read.

        Raises:
            SecretUnreadable, EndpointUnusable: as `open_endpoint`.
        """
        if (kept := self.get(snapshot)) is not None:
            return kept
        endpoint = open_endpoint(snapshot, load_secrets(connection, snapshot), self._vault, self._contexts)
        if endpoint.tls is not None:
            return endpoint  # kept here, more of the large contexts would stay than `TlsContexts` lets
        if len(self._open) >= KEPT_ENDPOINTS:
            self._open = {}
        self._open[snapshot.id] = snapshot.revision, endpoint
        return endpoint

    def open_webhook(self, webhook_id: int) -> tuple[WebhookSnapshot, Endpoint] | None:
        """A webhook as it is stored now, and its endpoint.

        Returns:
            None while nothing may be sent to it: it is disabled, paused, deleted or its circuit is open; or nothing can
            be, which is logged. Its deliveries stay due.
        """
        now = self._clock.now()
        with read_statement(self._engine) as connection:
            snapshot = load_endpoint(connection, webhook_id)
        if snapshot is None or snapshot.circuit.state(now) is CircuitState.OPEN:
            return None
        if (kept := self.get(snapshot)) is not None:
            return snapshot, kept
        # It is read again together with its secrets: they must be of one snapshot of the database.
        with read_transaction(self._engine) as connection:
            snapshot = load_endpoint(connection, webhook_id)
            if snapshot is None:
                return None
            try:
                return snapshot, self.open(connection, snapshot)
            except SecretUnreadable as exc:
                metrics.SECRETS_UNREADABLE.inc()
                # Ours to mend, not the receiver's: the deliveries stay due until the key is back.
                log.error("webhook.secret_unreadable", webhook_id=public_id(snapshot.kind, snapshot.id), error=str(exc))
                return None
            except EndpointUnusable as exc:
                metrics.WEBHOOKS_UNUSABLE.inc()
                log.error("webhook.unusable", webhook_id=public_id(snapshot.kind, snapshot.id), error=str(exc))
                return None

    def warm_up(self, snapshots: Iterable[WebhookSnapshot]) -> None:
        """Open those of these webhooks' endpoints that are not open, for the next time.

        A drain opens them too, but maybe in another process: after an edit, until one of each webhook had come to each.
        """
        closed = (one for one in snapshots if self.get(one) is None and not one.paused)
        # Those with a certificate are opened for each drain.
        plain = (one for one in closed if one.client_certificate_secret_id is None)
        for snapshot in islice(plain, WARMED_AT_A_TIME):
            with read_transaction(self._engine) as connection:
                fresh = load_endpoint(connection, snapshot.id)
                if fresh is not None:
                    with suppress(SecretUnreadable, EndpointUnusable):  # its drain reports them
                        self.open(connection, fresh)
