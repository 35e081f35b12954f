"""One kept-open HTTP connection to Hookline, by the standard library alone.

Knows nothing of events. Proxies of the environment (HTTPS_PROXY, NO_PROXY) are used, redirects are not followed.
"""

from __future__ import annotations

import base64
import http.client
import os
import ssl
import threading
import urllib.request
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from hookline.batches import BATCH_TYPE, Answer
from hookline.configuration import Endpoint
from hookline.errors import Unreachable
from hookline.version import __version__

PATH = "/v1/events"
_MAX_ANSWER_BYTES = 1 << 20
_STALE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)
"""How a connection shows that the other side has closed it since it was last used."""


class Transport(Protocol):
    """Sends one batch."""

    def post(self, body: bytes) -> Answer:
        """The answer to `POST /v1/events`. Raises Unreachable without one."""

    def close(self) -> None:
        """Close the connection; the next `post` opens another."""


def headers(endpoint: Endpoint) -> dict[str, str]:
    """The request's headers."""
    return {
        "Authorization": f"Bearer {endpoint.api_key}",
        "Content-Type": BATCH_TYPE,
        "User-Agent": f"hookline-client/{__version__}",
    }


class HttpTransport:
    """A connection of one process: a fork opens its own."""

    def __init__(self, endpoint: Endpoint, *, timeout_seconds: float, context: ssl.SSLContext | None = None) -> None:
        self._endpoint = endpoint
        self._timeout_seconds = timeout_seconds
        self._context = context
        self._parts = urlsplit(endpoint.url)
        self._path = self._parts.path + PATH
        self._lock = threading.Lock()  # of the connection: requests go one after another
        self._connection: http.client.HTTPConnection | None = None
        self._pid = os.getpid()
        _forget_at_fork(self)

    def post(self, body: bytes) -> Answer:
        """The answer to one request; raises Unreachable without one."""
        with self._lock:
            is_used = self._connection is not None
            try:
                return self._once(body)
            except _STALE as exc:
                self._drop()
                if not is_used:
                    raise self._unreachable(exc) from exc
            except (OSError, http.client.HTTPException, ValueError) as exc:
                self._drop()
                raise self._unreachable(exc) from exc
            try:  # a server closes idle connections; a repeat is safe
                return self._once(body)
            except (OSError, http.client.HTTPException, ValueError) as exc:
                self._drop()
                raise self._unreachable(exc) from exc

    def close(self) -> None:
        """Close the connection; the next `post` opens another."""
        with self._lock:
            self._drop()

    def _once(self, body: bytes) -> Answer:
        if self._connection is None:
            self._connection = self._open()
        self._connection.request("POST", self._target, body=body, headers={**headers(self._endpoint), **self._extra})
        response = self._connection.getresponse()
        content = response.read(_MAX_ANSWER_BYTES)
        if response.will_close or not response.isclosed():
            self._drop()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)

    def _open(self) -> http.client.HTTPConnection:
        self._target, self._extra = self._path, {}
        secure = self._parts.scheme == "https"
        host, port = self._parts.hostname or "", self._parts.port or (443 if secure else 80)
        proxy = None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(self._parts.scheme)
        options: dict[str, Any] = {"timeout": self._timeout_seconds}
        if secure:
            options["context"] = self._context or ssl.create_default_context()
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        if not proxy:
            return kind(host, port, **options)
        through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        connection = kind(through.hostname or "", through.port or 80, **options)
        authorization = _proxy_authorization(through.username, through.password)
        if secure:
            connection.set_tunnel(host, port, authorization)
        else:
            self._target, self._extra = self._endpoint.url + PATH, authorization
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _unreachable(self, exc: BaseException) -> Unreachable:
        return Unreachable(f"no answer from {self._endpoint.url}: {exc or type(exc).__name__}")

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        connection, self._connection = self._connection, None
        if connection is not None:
            # Its reader's own lock may be held by a thread that only the parent has, and to close or to collect it
            # would wait for that for ever. So only this process's copy of the socket is closed.
            _abandoned.append(connection)
            if connection.sock is not None:
                os.close(connection.sock.detach())


_abandoned: list[http.client.HTTPConnection] = []
"""Connections of a parent that must not be collected here."""


def _proxy_authorization(user: str | None, password: str | None) -> dict[str, str]:
    if user is None:
        return {}
    pair = f"{unquote(user)}:{unquote(password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _forget_at_fork(transport: HttpTransport) -> None:
    from hookline.forks import after_fork_in_child

    after_fork_in_child(transport, HttpTransport._after_fork)


_substitute: Transport | None = None
"""What `hookline.testing.recorded` sends to, instead of any Hookline."""


def substituted() -> Transport | None:
    """The transport that stands in for every other one, while a test records."""
    return _substitute


def substitute(transport: Transport | None) -> None:
    """Send all that is published in this process to `transport`; None ends it."""
    global _substitute
    _substitute = transport
