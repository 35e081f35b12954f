"""One connection to the API, bounded in the memory and time that it takes, with or without a key.

uvicorn's protocol for httptools bounds neither a request's head nor how long anything takes. Must not look into bodies:
the application bounds those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    import asyncio

    from uvicorn.config import Config
    from uvicorn.server import ServerState

BODY_OVERHEAD = 16
"""Bytes on the wire for each byte of a body: chunks of one byte have five more, and nobody sends those on purpose."""
_numbers = count(1)
BUSY = "all connections of this server are in use"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of a connection. Seconds are counted by `Connection.sweep`, while the event loop is free."""

    connections: int = 1000
    """Beyond this many, one that has not sent a whole request is closed for a new one."""
    head_bytes: int = 64 << 10
    """A request line and its header fields; also trailers, and what chunks have besides their data."""
    head_fields: int = 200
    head_seconds: int = 10
    """From a request's first byte, or from the connection's begin, to the end of its head."""
    body_seconds: int = 10
    """Between two pieces of a body; and beyond this, a body must have brought `slowest_bytes` for each second."""
    answer_seconds: int = 30
    """A client that reads fewer than `slowest_bytes` a second, on average over this time, is gone."""
    slowest_bytes: int = 1 << 10
    linger_seconds: int = 5
    """How long a refused client may go on sending. If the connection were closed immediately, it might not read why."""
    linger_bytes: int = 16 << 20
    """How much of a refused body is read: twice the largest accepted one."""
    pipelined: int = 64
    """Requests that are taken before the first of them is answered."""


Cut: TypeAlias = Callable[[str], None]
"""Is told why a connection was cut: a value of the label `reason` of `hookline_connections_cut_total`."""


class _Refused(Exception):
    """Leaves the parser, whose callbacks have dealt with the connection already."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol within `Bounds`.

    A request's parts arrive in order, so one counter is enough for all that is no body: `_surplus`, the bytes since the
    last part ended that no part has accounted for.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        bounds: Bounds,
        cut: Cut,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounds = bounds
        self._cut = cut
        self._running: RequestResponseCycle | None = None
        self._in_body = False
        self._deaf = False
        self._offers_upgrade = False
        self._number = next(_numbers)
        self._surplus = self._head_bytes = self._body_bytes = self._unwanted_bytes = 0
        self._head_ticks = self._body_ticks = self._quiet_ticks = self._linger_ticks = self._unsent_ticks = 0
        self._unsent_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, in the place of one that has not asked for anything if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._bounds.connections:
            self._cut("crowded")
            waiting = [one for one in self.connections if isinstance(one, Connection) and one._may_go(self)]
            if waiting:
                max(waiting, key=lambda one: (one._head_ticks, -one._number)).transport.abort()
            else:
                self._deaf = True
                self._write_problem(503, "unavailable", BUSY, [("retry-after", "1")])
                transport.close()

    def leave_if_idle(self) -> bool:
        """End the connection if it waits for a request; whether it did. For when descriptors are scarce."""
        if not self._may_go(None):
            return False
        self._cut("crowded")
        self.transport.abort()
        return True

    def _may_go(self, newcomer: Connection | None) -> bool:
        return self is not newcomer and not self._is_answering and not self._in_body and not self.transport.is_closing()

    @property
    def _is_answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def data_received(self, data: bytes) -> None:
        """Parse the bytes that the client sent, unless its request was refused."""
        self._quiet_ticks = 0
        self._unset_keepalive_if_required()
        if self._deaf:
            self._count_unwanted(len(data))
            return
        self._surplus += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            if not self._deaf:
                self.send_400_response("the request is not valid HTTP")
        if self._surplus > self._bounds.head_bytes and not self._deaf:
            self._refuse_head()

    def _feed(self, data: bytes) -> None:
        """Parse bytes. An offer to change to another protocol is ignored, as a server may (RFC 9110, section 7.8).

        The parser takes what follows such an offer for the other protocol, body or not. So another parser reads the
        request again without the field Upgrade, and goes on behind it. Java's HttpClient and `curl --http2` offer h2c
        with each request at `http://`, and a WebSocket's client its own protocol.
        """
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                rest = data[offer.args[0] :]
            if not self._offers_upgrade:  # CONNECT, which has no body
                self._end_after_answers()
                return
            self._offers_upgrade = False
            data = self._head_without_upgrade() + rest
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        fields = b"".join(b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade")
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self.parser.get_method(), self.url, version, fields)

    def on_message_begin(self) -> None:
        """A request begins."""
        if len(self.pipeline) >= self._bounds.pipelined:
            self._end_after_answers()
            raise _Refused
        super().on_message_begin()
        self._head_bytes = self._head_ticks = 0

    def on_url(self, url: bytes) -> None:
        """A part of the URL."""
        self._take_of_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or a trailer field, which nobody reads."""
        if self._in_body:
            return
        self._take_of_head(len(name) + len(value))
        super().on_header(name, value)

    def _take_of_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._bounds.head_bytes or len(self.headers) >= self._bounds.head_fields:
            self._refuse_head()
            raise _Refused

    def _refuse_head(self) -> None:
        self._cut("head_too_large")
        most = f"{self._bounds.head_bytes} bytes in {self._bounds.head_fields} fields"
        self._refuse(431, "head-too-large", f"what a request has besides its body must be at most {most}")

    def on_headers_complete(self) -> None:
        """A request's head is whole."""
        self._offers_upgrade = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        if self._offers_upgrade:
            return
        super().on_headers_complete()
        self._in_body = True
        self._surplus = self._body_bytes = self._body_ticks = self._unwanted_bytes = 0

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._surplus = max(0, self._surplus - BODY_OVERHEAD * len(body))
        self._body_bytes += len(body)
        if self.cycle.response_complete:
            self._count_unwanted(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        if self._offers_upgrade:
            return
        super().on_message_complete()
        self._in_body = False
        self._surplus = self._head_ticks = self._linger_ticks = 0

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """An answer is written, if not sent."""
        self._unsent_ticks = self._head_ticks = 0
        super().on_response_complete()

    def resume_writing(self) -> None:
        """The client reads."""
        self._unsent_ticks = 0
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(400, "bad-request", msg)

    def _count_unwanted(self, size: int) -> None:
        self._unwanted_bytes += size
        if self._unwanted_bytes > self._bounds.linger_bytes and not self.transport.is_closing():
            self._cut("unwanted_body")
            self.transport.abort()

    def _end_after_answers(self) -> None:
        """Read no further requests, and close when those that were read are answered."""
        self._deaf = True
        last = self.pipeline[0][0] if self.pipeline else self._running
        if last is None or last.response_complete:
            self.transport.close()
        else:
            last.keep_alive = False

    def _refuse(self, status: int, kind: str, detail: str) -> None:
        """Answer the request that is being read with a problem, after the answers to those before it, and close.

        An answer that comes too early would be taken for that to another request; so behind one, nothing is said.
        """
        self._deaf = True
        if self._in_body and self.pipeline:
            self.pipeline.popleft()
        elif self._in_body:
            if self.cycle.response_started:
                self.transport.abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._running = None
        self._in_body = False
        if self._is_answering:
            self._end_after_answers()
            return
        self._write_problem(status, kind, detail)
        self.flow.resume_reading()
        with suppress(OSError, NotImplementedError):
            self.transport.write_eof()

    def _write_problem(self, status: int, kind: str, detail: str, fields: Iterable[tuple[str, str]] = ()) -> None:
        if not self.transport.is_closing():
            own = [(name.decode(), value.decode()) for name, value in self.server_state.default_headers]
            self.transport.write(_problem(status, kind, detail, [*own, *fields]))

    def sweep(self) -> None:
        """Count a second, and cut the connection if it takes too long. Called once a second.

        Seconds in which the event loop was busy do not count.
        """
        if self._sweep_unsent() or self.transport.is_closing():
            return
        bounds = self._bounds
        if self._deaf:
            if not self._is_answering and self._has_lingered():
                self.transport.abort()
        elif self._in_body and self.cycle.response_complete:
            if self._has_lingered():
                self._cut("unwanted_body")
                self.transport.abort()
        elif self._in_body:
            self._sweep_body()
        elif not self._is_answering and self.timeout_keep_alive_task is None:
            self._head_ticks += 1
            if self._head_ticks >= bounds.head_seconds:
                self._cut("head_too_slow")
                if self._surplus:
                    self._refuse(408, "too-slow", f"a request's head must be sent within {bounds.head_seconds} s")
                else:
                    self.transport.close()

    def _has_lingered(self) -> bool:
        self._linger_ticks += 1
        return self._linger_ticks >= self._bounds.linger_seconds

    def _sweep_body(self) -> None:
        if self.flow.read_paused or self.cycle.waiting_for_100_continue:
            return  # it is this side that has to go on
        bounds = self._bounds
        self._quiet_ticks += 1
        self._body_ticks += 1
        owed_bytes = (self._body_ticks - bounds.body_seconds) * bounds.slowest_bytes
        if self._quiet_ticks >= bounds.body_seconds or self._body_bytes < owed_bytes:
            self._cut("body_too_slow")
            detail = f"a body must be sent without pauses of {bounds.body_seconds} s, and not slower than 1 KiB/s"
            self._refuse(408, "too-slow", detail)

    def _sweep_unsent(self) -> bool:
        """Whether the connection was cut because its client does not read."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent:
            self._unsent_ticks = 0
            return False
        if self._unsent_ticks == 0:
            self._unsent_bytes = unsent
        self._unsent_ticks += 1
        if self._unsent_ticks <= self._bounds.answer_seconds:
            return False
        self._unsent_ticks = 0
        if self._unsent_bytes - unsent >= self._bounds.answer_seconds * self._bounds.slowest_bytes:
            return False
        self._cut("answer_not_read")
        self.transport.abort()
        return True


def _problem(status: int, kind: str, detail: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """A problem document (RFC 9457) as a whole answer, after which the connection ends."""
    title = HTTPStatus(status).phrase
    body = orjson.dumps(
        {"type": f"urn:hookline:problem:{kind}", "title": title, "status": status, "detail": detail, "errors": []}
    )
    own = (
        ("content-type", "application/problem+json"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        ("connection", "close"),
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in [*fields, *own])
    return STATUS_LINE[status] + head.encode() + b"\r\n" + body
