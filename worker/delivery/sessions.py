"""What a process sends to many webhooks at a time, and records together: one session for each webhook.

Here meet the deliveries that leave with the commit that makes them (`fast_path`) and those that a drain of many
webhooks claims (`joint_drain`). No thread waits for their answers.

Must not decide what is sent nor hold slots back: who sends has acquired them, and the background recorder gives them
back.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial

from shared.delivery.endpoint import Endpoint
from shared.storage.delivery.admission import needs_admission
from shared.storage.delivery.claims import ClaimedDelivery
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot
from worker.delivery.attempt_executor import AttemptExecutor, Submission
from worker.delivery.attempt_result import LONG_AGO, AttemptResult, ReleasedClaim
from worker.delivery.background_recorder import BackgroundRecorder
from worker.delivery.claims import ClaimedBatch
from worker.delivery.endpoint_cache import KEPT_ENDPOINTS, EndpointCache
from worker.delivery.recorded_batch import RecordedBatch
from worker.delivery.recorder import OutcomeRecorder, RecorderFactory


class WebhookSession:
    """What a process sends to one webhook beside others, as long as its endpoint stays open.

    Threads of evaluations `refresh` it and submit its deliveries; threads of the background recorder `note`. Each
    attribute that changes is one immutable value, replaced by one assignment, and an old one does no harm: `slow` and
    `healthy` only choose how many slots are asked for, and the limiter decides.
    """

    def __init__(
        self,
        *,
        webhook_id: int,
        endpoint: Endpoint,
        slow: bool,
        recorder: OutcomeRecorder,
    ) -> None:
        self.webhook_id = webhook_id
        self.recorder = recorder
        self.endpoint = endpoint
        self.webhook = endpoint.webhook
        self.leased_until = LONG_AGO
        """When the lease of what was submitted last ends. Written by evaluations, read for logs."""
        self.slow = slow
        """As the webhook's row was read last. Written by `refresh`."""
        self.healthy = False
        """Whether all went well when it was last heard of: then more may be claimed than is sent at a time. Written by
        `note`."""
        self.left_some_due = False
        """Whether a drain claimed all that it could, so that more may be due. Written before anything is sent."""

    def refresh(self, snapshot: WebhookSnapshot) -> None:
        """Go by the webhook's row as it was just read."""
        self.slow = snapshot.slow
        self.recorder.refresh(snapshot)

    def note(self, recorded: RecordedBatch) -> None:
        """Go by what the webhook was found to be like as results were recorded."""
        self.healthy = recorded.healthy

    def may_have_more(self, recorded: RecordedBatch, results: Sequence[AttemptResult]) -> bool:
        """Whether something is due that was not sent after all, or that a drain left."""
        left_some_due, self.left_some_due = self.left_some_due, False  # asked once: it is looked for after this
        if recorded.disabled is not None or recorded.circuit.opened_at is not None:
            return False
        return left_some_due or any(isinstance(one, ReleasedClaim) for one in results)


class WebhookSessions:
    """The sessions of a process. Threads of evaluations and drains share it: `_lock` guards `_sessions`."""

    def __init__(
        self,
        *,
        endpoints: EndpointCache,
        executor: AttemptExecutor,
        recorders: RecorderFactory,
        background: BackgroundRecorder,
    ) -> None:
        self._endpoints = endpoints
        self._executor = executor
        self._recorders = recorders
        self._background = background
        self.token = secrets.randbits(62)
        """The claim token of the sessions that are kept."""
        self._sessions: dict[int, WebhookSession] = {}
        """By webhook. A session that is replaced, because its endpoint was opened anew, lives on until its requests
        have ended."""
        self._lock = threading.Lock()

    def open(self, snapshots: Iterable[WebhookSnapshot]) -> dict[int, WebhookSession]:
        """The sessions of those of these webhooks, as they were just read, that may be sent to without being admitted.

        That is: whose endpoints are open here, that are not paused, and that no limit or circuit holds up.
        """
        found = {}
        with self._lock:
            for snapshot in snapshots:
                endpoint = None if snapshot.paused else self._endpoints.get(snapshot)
                if endpoint is not None and not needs_admission(endpoint.policy, snapshot.circuit):
                    found[snapshot.id] = self._session(snapshot, endpoint)
        return found

    def make(self, snapshot: WebhookSnapshot, endpoint: Endpoint, *, token: int) -> WebhookSession:
        """A session for what is claimed of a webhook under another token than `token`; it is not kept."""
        return WebhookSession(
            webhook_id=snapshot.id,
            endpoint=endpoint,
            slow=snapshot.slow,
            recorder=self._recorders.open(snapshot, endpoint, token=token),
        )

    def send(
        self, several: Sequence[tuple[WebhookSession, Sequence[ClaimedDelivery]]], *, claimed_at: datetime
    ) -> None:
        """Send what was claimed under each session's token.

        What comes of it is recorded, and its slots, which the caller has acquired, are given back then.
        """
        self._background.register_all({session: len(claimed) for session, claimed in several})
        self._executor.submit_all(
            Submission(
                ClaimedBatch(claimed_at, claimed),
                session.webhook_id,
                session.endpoint,
                session.recorder.token,
                partial(self._background.put, session),
            )
            for session, claimed in several
        )

    def _session(self, snapshot: WebhookSnapshot, endpoint: Endpoint) -> WebhookSession:
        """A webhook's session, with the lock held."""
        session = self._sessions.get(snapshot.id)
        if session is None or session.endpoint is not endpoint:
            if len(self._sessions) >= KEPT_ENDPOINTS:
                self._sessions = {}
            session = self._sessions[snapshot.id] = self.make(snapshot, endpoint, token=self.token)
        session.refresh(snapshot)
        return session
