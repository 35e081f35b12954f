"""A local HTTP receiver that trusts nothing: it checks the token and both signatures of each request and records it.

It stands for the endpoints that teams run. Signatures are verified with the `standardwebhooks` library and with `hmac`,
never with the service's own code. To show a retry it can answer 500 to the first attempts of a path.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

IDLE_SECONDS = 30
WRONG_CREDENTIALS = ("Authorization", "webhook-signature", "X-Wandb-Signature")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path and what it demands; `fail_first` deliveries get a 500 on their first attempt."""

    path: str
    access_token: str | None = field(default=None, repr=False)
    signing_secret: str | None = field(default=None, repr=False)
    fail_first: int = 0


@dataclass(frozen=True, slots=True)
class Received:
    """One request: what came, what was wrong with it (each fault begins with the header or part), what was answered."""

    webhook_id: str
    path: str
    attempt: int
    raw: bytes
    body: Any
    faults: tuple[str, ...]
    status: int


def request_faults(endpoint: Endpoint, headers: Mapping[str, str], raw: bytes) -> tuple[str, ...]:
    """Everything that is wrong with a request to an endpoint.

    Args:
        endpoint: what the path demands.
        headers: the request's headers, names in lower case.
        raw: the body as it came.
    """
    found = (
        _form_faults(headers, raw),
        _token_fault(endpoint, headers),
        _standard_signature_fault(endpoint, headers, raw),
        _wandb_signature_fault(endpoint, headers, raw),
    )
    return tuple(fault for faults in found for fault in faults)


def _form_faults(headers: Mapping[str, str], raw: bytes) -> Iterable[str]:
    if headers.get("content-type") != "application/json":
        yield f"Content-Type: {headers.get('content-type')!r} is not application/json"
    if not headers.get("user-agent", "").startswith("hookline/"):
        yield f"User-Agent: {headers.get('user-agent')!r} does not begin with hookline/"
    if not headers.get("webhook-id"):
        yield "webhook-id: is missing"
    if not headers.get("hookline-attempt", "").isdecimal():
        yield "hookline-attempt: is not a number"
    if not isinstance(_decoded(raw), dict):
        yield "body: is not a JSON object"


def _token_fault(endpoint: Endpoint, headers: Mapping[str, str]) -> Iterable[str]:
    sent = headers.get("authorization")
    if endpoint.access_token is None:
        if sent is not None:
            yield "Authorization: was sent to an endpoint without an access token"
    elif sent is None or not hmac.compare_digest(sent.encode(), f"Bearer {endpoint.access_token}".encode()):
        yield "Authorization: is not the access token"


def _standard_signature_fault(endpoint: Endpoint, headers: Mapping[str, str], raw: bytes) -> Iterable[str]:
    if endpoint.signing_secret is None:
        return
    try:
        Webhook(endpoint.signing_secret).verify(raw, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError) as exc:
        yield f"webhook-signature: {exc}"


def _wandb_signature_fault(endpoint: Endpoint, headers: Mapping[str, str], raw: bytes) -> Iterable[str]:
    if endpoint.signing_secret is None:
        return
    digest = hmac.new(endpoint.signing_secret.encode(), raw, hashlib.sha256).digest()
    if not hmac.compare_digest(base64.b64encode(digest), headers.get("x-wandb-signature", "").encode()):
        yield "X-Wandb-Signature: does not match the body"


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


class Receiver:
    """The server; a context manager that listens on 127.0.0.1, on a free port unless one is given."""

    def __init__(self, endpoints: Iterable[Endpoint], port: int = 0) -> None:
        self._endpoints = {endpoint.path: endpoint for endpoint in endpoints}
        self._lock = threading.Lock()
        self._records: list[Received] = []
        self._seen: dict[str, set[str]] = {path: set() for path in self._endpoints}
        self._failed: dict[str, int] = dict.fromkeys(self._endpoints, 0)
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="receiver", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.server_port

    def records(self) -> list[Received]:
        """What came so far, in order of arrival."""
        with self._lock:
            return list(self._records)

    def receive(self, path: str, headers: Mapping[str, str], raw: bytes) -> HTTPStatus:
        """Check and record one request, and decide on the answer: 401 for wrong credentials, 400 for a wrong form."""
        endpoint = self._endpoints.get(path)
        faults = request_faults(endpoint, headers, raw) if endpoint else ("path: there is no such endpoint",)
        webhook_id = headers.get("webhook-id", "")
        attempt = headers.get("hookline-attempt", "")
        with self._lock:
            status = self._answer(endpoint, webhook_id, faults)
            number = int(attempt) if attempt.isdecimal() else 0
            self._records.append(Received(webhook_id, path, number, raw, _decoded(raw), faults, status))
        return status

    def _answer(self, endpoint: Endpoint | None, webhook_id: str, faults: tuple[str, ...]) -> HTTPStatus:
        if endpoint is None:
            return HTTPStatus.NOT_FOUND
        if faults:
            wrong = any(fault.startswith(WRONG_CREDENTIALS) for fault in faults)
            return HTTPStatus.UNAUTHORIZED if wrong else HTTPStatus.BAD_REQUEST
        first = webhook_id not in self._seen[endpoint.path]
        self._seen[endpoint.path].add(webhook_id)
        if first and self._failed[endpoint.path] < endpoint.fail_first:
            self._failed[endpoint.path] += 1
            return HTTPStatus.INTERNAL_SERVER_ERROR
        return HTTPStatus.OK


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = IDLE_SECONDS

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(receiver.receive(self.path, headers, raw))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: requests are recorded, not logged."""

    return Handler
