"""HTTP/1.1 as a webhook sender needs it: one request at a time on a connection, an answer read within bounds.

llhttp parses, through httptools; this module does what a connection does around it. An answer is kept as it came:
nothing is decompressed or decoded. Must not connect or pool (`shared.http.pool`), nor judge answers
(`shared.http.client`).
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

import httptools

from shared.domain.delivery.exchange import SHOWN_HEADER_BYTES
from shared.domain.delivery.requested_waits import WAIT_HEADERS
from shared.domain.payloads.masking import CUT_BYTES, SHOWN_BYTES
from shared.http.exceptions import IncompleteResponse, RemoteProtocolError, ServerDisconnected

MAX_HEAD_BYTES = 64 << 10
"""The largest status line with headers, those of interim answers included. An answer with more is not valid HTTP."""
MAX_RESPONSE_BYTES = 64 << 10
"""How much of a body is read; the connection is closed at it. A process reads from `max_connections` at a time."""
KEPT_RESPONSE_BYTES = SHOWN_BYTES + CUT_BYTES
"""How much of a body is kept until secrets are taken out of it: more than is shown, so that no value is cut in two."""
KEPT_HEADER_BYTES = SHOWN_HEADER_BYTES + CUT_BYTES
"""The same for its headers, the separators not counted."""
_MAX_FRAMING_BYTES = 1 << 20
"""The most bytes after the head, chunk sizes, extensions and trailers included: they may be far more than the body."""
_MAX_PIECES = 4096
"""The most parts of a body and its trailers. Each costs a call from the parser, in which the loop serves nobody else:
a few milliseconds for this many. A body of 64 KiB comes in fewer unless its chunks are smaller than 16 bytes."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with a time-out of 0: closing drops what is not sent yet and resets the connection."""
_SWITCHING_PROTOCOLS = 101
_FIRST_FINAL = 200


@dataclass(slots=True)
class Trace:
    """What becomes known of a request on its way, also where it fails. Whoever makes the request passes a new one."""

    sent_bytes: int = 0
    """The request, head and body, once it is written."""
    remote_address: str | None = None
    tls_version: str | None = None
    place: int = 0
    """Which request of its connection it is: 1 for the first."""
    lookup_seconds: float | None = None
    connect_seconds: float | None = None
    handshake_seconds: float | None = None
    first_byte_seconds: float | None = None


@dataclass(slots=True)
class Response:
    """An endpoint's answer, as far as it was read."""

    status: int = 0
    waits: dict[bytes, bytes] = field(default_factory=dict)
    """Its headers of `WAIT_HEADERS`, by their names in lower case."""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    """As they came, until they are more than `KEPT_HEADER_BYTES`. Trailers are none of them."""
    headers_cut: bool = False
    received_bytes: int = 0
    """What was read of it, head and body, with interim answers."""
    body: bytearray = field(default_factory=bytearray)
    """The first `KEPT_RESPONSE_BYTES`."""
    seen_bytes: int = 0
    """How much of the body was read; reading stops at `MAX_RESPONSE_BYTES`."""


class _StopParsing(Exception):
    """Raised into the parser by a callback, since nothing more of the answer is worth reading."""


class Http11Connection(asyncio.Protocol):
    """One connection, which is in one of three states:

    - busy: `request` waits for an answer, so `_waiter` is set. It ends by `_succeed` or `_fail`, whichever comes first;
    - free: `is_open` and no `_waiter`. The pool may call `request`. Data that arrives now was not asked for and would
      pass for the next answer, so it closes the connection;
    - closed: `is_open` is false, for good. `_spoke_unasked` tells whether that was why.

    All of it runs on one event loop, whose callbacks (data, the end of the connection, the time-out) never interrupt
    each other: no attribute needs a lock. Whoever else looks at one, the pool, does so on the same loop.
    """

    __slots__ = (
        "_answer",
        "_ends_with_connection",
        "_framing_bytes",
        "_head_bytes",
        "_head_done",
        "_header_bytes",
        "_keep",
        "_message_done",
        "_parser",
        "_pieces",
        "_spoke_unasked",
        "_timer",
        "_trace",
        "_transport",
        "_waiter",
        "_written_at",
        "idle_since",
        "is_open",
        "remote_address",
        "served",
        "tls_version",
    )

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[Response] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._spoke_unasked = False
        self._written_at = 0.0
        """The loop's time, until the first byte of the answer is there; then 0."""
        self.is_open = False
        self.idle_since = 0.0
        self.remote_address: str | None = None
        self.tls_version: str | None = None
        self.served = 0
        """How many requests it was given."""

    async def request(self, request: bytes, timeout_seconds: float, trace: Trace) -> Response:
        """Send a request, head and body, and read its answer; afterwards `is_open` tells whether another may follow.

        `trace` learns what was sent, and when the answer began.

        Raises:
            TimeoutError: when the whole answer is not there within `timeout_seconds`.
            RemoteProtocolError, IncompleteResponse, ServerDisconnected, OSError: as their names say.

        The connection is closed whenever this raises.
        """
        if not self.is_open:  # the endpoint was quicker: it spoke, or left, before it was asked
            raise RemoteProtocolError if self._spoke_unasked else ServerDisconnected
        loop = asyncio.get_running_loop()
        self._answer = Response()
        self._parser = httptools.HttpResponseParser(self)
        self._head_bytes = self._framing_bytes = self._pieces = self._header_bytes = 0
        self._head_done = self._message_done = self._keep = False
        self._ends_with_connection = True
        self._waiter = waiter = loop.create_future()
        self._timer = loop.call_later(timeout_seconds, self._time_out)
        self._trace = trace
        self._written_at = loop.time()
        self._transport.write(request)
        trace.sent_bytes = len(request)
        try:
            answer: Response = await waiter
        except asyncio.CancelledError:
            self.abort()
            self._end()
            raise
        return answer

    def abort(self) -> None:
        """Close without TLS's closing handshake, which an endpoint could delay. An unanswered request is withdrawn."""
        if self.is_open:
            self.is_open = False
            if self._waiter is not None:
                self._withdraw()
            self._transport.abort()

    def is_quiet(self) -> bool:
        """Whether nothing has arrived from the endpoint that is still to be read, not even the end of the connection.

        The event loop may not have looked at the socket yet. A request sent now would be lost, or would get an answer
        that was not meant for it.
        """
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return not poll.poll(0)

    def _withdraw(self) -> None:
        """Have the kernel drop what it has not sent of the request when the connection closes.

        Otherwise it retries for minutes: a request could arrive after the delivery's lease, beside the next attempt's,
        once a broken network recovers.
        """
        if (known := self._transport.get_extra_info("socket")) is not None:
            with suppress(OSError):  # some systems refuse it where the other side is gone
                known.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    # Callbacks of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is established, TLS included."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not subclasses of it
        if (tls := transport.get_extra_info("ssl_object")) is not None:
            self.tls_version = tls.version()
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Read a part of the answer; data while no request is underway closes the connection."""
        if self._waiter is None:
            self._spoke_unasked = True
            self.abort()
            return
        if self._written_at:
            self._trace.first_byte_seconds = asyncio.get_running_loop().time() - self._written_at
            self._written_at = 0.0
        if not self._head_done and len(data) > (room := MAX_HEAD_BYTES - self._head_bytes):
            # First as much as the head may have left: if it does not end in that, it is too large.
            self._read(data[:room])
            data = data[room:]
        if self._waiter is not None:
            self._read(data)

    def _read(self, data: bytes) -> None:
        if self._head_done:
            self._framing_bytes += len(data)
        else:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # after 101: what follows is no HTTP
            self._succeed(keep=False)
        except httptools.HttpParserError:
            if self._message_done or self._pieces > _MAX_PIECES:
                self._succeed(keep=False)
            else:
                self._fail(RemoteProtocolError())
        else:
            self._check_progress()

    def eof_received(self) -> None:
        """The endpoint sends no more. Returning None closes the transport, and `connection_lost` follows."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended: that is the end of a body without a length, or a failure of the request."""
        self.is_open = False
        if self._waiter is None:
            return
        if not self._head_done:
            self._fail(exc or ServerDisconnected())
        elif exc is None and self._ends_with_connection:
            self._succeed(keep=False)
        else:
            self._fail(IncompleteResponse())

    # Callbacks of the parser, from within `feed_data`.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what matters of a header; a trailer is only counted."""
        if self._head_done:
            self._count_piece()
            return
        lowered = name.lower()
        if lowered in WAIT_HEADERS:
            self._answer.waits[lowered] = value
        elif lowered == b"content-length" or (lowered == b"transfer-encoding" and _is_chunked(value)):
            self._ends_with_connection = False
        self._header_bytes += len(name) + len(value)
        if self._header_bytes <= KEPT_HEADER_BYTES:
            self._answer.headers.append((name, value))
        else:
            self._answer.headers_cut = True

    def on_headers_complete(self) -> None:
        """The head is complete: a final answer's, or an interim one's."""
        self._answer.status = self._parser.get_status_code()
        self._head_done = not self._is_interim()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body as far as there is room, and count all of it."""
        self._count_piece()
        answer = self._answer
        if len(answer.body) < KEPT_RESPONSE_BYTES:
            answer.body += body[: KEPT_RESPONSE_BYTES - len(answer.body)]
        answer.seen_bytes += len(body)

    def _count_piece(self) -> None:
        self._pieces += 1
        if self._pieces > _MAX_PIECES:
            raise _StopParsing

    def on_message_begin(self) -> None:
        """Stop at a second answer, which nobody asked for: nothing of it gets into the first."""
        if self._message_done:
            raise _StopParsing

    def on_message_complete(self) -> None:
        """Note that the answer is complete; after an interim one (RFC 9110, section 15.2) comes another."""
        if self._is_interim():
            self._answer = Response()
            self._header_bytes = 0
            self._ends_with_connection = True
        elif not self._message_done:
            self._message_done = True
            self._keep = self._parser.should_keep_alive()

    def _is_interim(self) -> bool:
        status = self._answer.status
        return 100 <= status < _FIRST_FINAL and status != _SWITCHING_PROTOCOLS

    # Ends of a request. Each takes the waiter away first, so that only the first one of them counts.

    def _check_progress(self) -> None:
        if self._message_done:
            self._succeed(keep=self._keep)
        elif not self._head_done:
            if self._head_bytes >= MAX_HEAD_BYTES:
                self._fail(RemoteProtocolError())
        elif self._answer.seen_bytes >= MAX_RESPONSE_BYTES or self._framing_bytes > _MAX_FRAMING_BYTES:
            self._succeed(keep=False)

    def _succeed(self, *, keep: bool) -> None:
        waiter = self._end()
        # Where the endpoint answered before it read all of the request, the rest would begin the next one.
        if not keep or self._transport.get_write_buffer_size():
            self.abort()
        self._answer.received_bytes = self._head_bytes + self._framing_bytes
        if waiter is not None and not waiter.done():
            waiter.set_result(self._answer)

    def _time_out(self) -> None:
        self.abort()
        self._fail(TimeoutError())

    def _fail(self, exc: Exception) -> None:
        waiter = self._end()
        self.abort()
        if waiter is not None and not waiter.done():
            waiter.set_exception(exc)

    def _end(self) -> asyncio.Future[Response] | None:
        waiter, self._waiter = self._waiter, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return waiter


def _is_chunked(codings: bytes) -> bool:
    """Whether a body ends by itself: with any other last coding it ends with the connection (RFC 9112, section 6.3)."""
    return codings.rpartition(b",")[2].strip().lower() == b"chunked"
