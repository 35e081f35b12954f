"""Endpoints that are open: kept until their webhook or its secrets change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection

from shared.delivery.endpoint import Endpoint, open_endpoint
from shared.domain.delivery.circuits import CircuitState
from shared.domain.errors import EndpointUnusable
from shared.http.tls import TlsContexts
from shared.observability import metrics
from shared.observability.logs import get_logger
from shared.storage.database.transactions import read_statement, read_transaction
from shared.storage.definitions.webhooks import public_id
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot, load_endpoint, load_secrets
from shared.vault import SecretUnreadable, Vault

if TYPE_CHECKING:
    from worker.bootstrap import WorkerProcess

log = get_logger("hookline.deliver")

KEPT_ENDPOINTS = 1000


class EndpointCache:
    """The endpoints that a process sends to, kept open from drain to drain until anything is edited.

    Those with a client certificate are opened for each drain, with a context that `TlsContexts` keeps.
    """

    def __init__(self, vault: Vault, contexts: TlsContexts) -> None:
        self._vault = vault
        self._contexts = contexts
        self._open: dict[int, tuple[int, Endpoint]] = {}

    def kept(self, row: WebhookSnapshot) -> Endpoint | None:
        """The endpoint of a row, where it is open and nothing was edited since."""
        revision, endpoint = self._open.get(row.id, (None, None))
        # Every edit of a webhook or a secret takes the next revision, and commits with it.
        return endpoint if revision == row.revision else None

    def open(self, connection: Connection, row: WebhookSnapshot) -> Endpoint:
        """The endpoint of a row that this transaction read.

        Raises:
            SecretUnreadable, EndpointUnusable: as `open_endpoint`.
        """
        if (kept := self.kept(row)) is not None:
            return kept
        endpoint = open_endpoint(row, load_secrets(connection, row), self._vault, self._contexts)
        if endpoint.tls is not None:
            return endpoint  # kept here, more of the large contexts would stay than `TlsContexts` lets
        if len(self._open) >= KEPT_ENDPOINTS:
            self._open = {}
        self._open[row.id] = row.revision, endpoint
        return endpoint


def open_webhook(runtime: WorkerProcess, webhook_id: int) -> tuple[WebhookSnapshot, Endpoint] | None:
    """The webhook with its secrets decrypted; None while nothing may be sent to it."""
    now = runtime.clock.now()
    with read_statement(runtime.engine) as connection:
        row = load_endpoint(connection, webhook_id)
    if row is None or row.circuit.state(now) is CircuitState.OPEN:
        return None
    if (kept := runtime.endpoints.kept(row)) is not None:
        return row, kept
    # With its secrets it is read again, so that they are of one picture.
    with read_transaction(runtime.engine) as connection:
        row = load_endpoint(connection, webhook_id)
        if row is None:
            return None
        try:
            return row, runtime.endpoints.open(connection, row)
        except SecretUnreadable as exc:
            metrics.SECRETS_UNREADABLE.inc()
            # Ours to mend, not the receiver's: the deliveries stay due until the key is back.
            log.error("webhook.secret_unreadable", webhook_id=public_id(row.kind, row.id), error=str(exc))
            return None
        except EndpointUnusable as exc:
            metrics.WEBHOOKS_UNUSABLE.inc()
            log.error("webhook.unusable", webhook_id=public_id(row.kind, row.id), error=str(exc))
            return None
