"""Every way in which a receiver is hostile or broken, and what has to come of a request to it.

The one list that tests of delivering and the benchmark of neighbours share. `TIMEOUT_SECONDS` is how long an attempt
may take, `CONNECT_SECONDS` the connection; receivers that hang or go on do so until the client leaves.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache, partial
from pathlib import Path

from shared.domain.delivery.outcomes import OutcomeKind
from tests.authority import Authority, Issued
from tests.integration.http.hostile import ANSWER, Behaviour, Endpoint, Visit, behaving
from tests.servers import free_port

TIMEOUT_SECONDS = 1.0
CONNECT_SECONDS = 0.7
ENDLESS_SECONDS = 120.0
DRIP_SECONDS = 0.05
ASKED_SECONDS = 600
"""What `Retry-After` asks for here."""
_PIECE = b"x" * 0x4000
_CHUNK = b"4000\r\n" + _PIECE + b"\r\n"
_OK = b"HTTP/1.1 200 OK\r\n"

CLOSED = "the endpoint closed the connection before it answered"
BROKE_OFF = "the answer broke off, or its body is not valid HTTP"
NOT_HTTP = "the answer is not valid HTTP"
NO_ANSWER = f"no answer within {TIMEOUT_SECONDS:g} s"
NO_CONNECTION = f"no connection within {CONNECT_SECONDS:g} s"
UNTRUSTED = "the endpoint's certificate is not trusted: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostility:
    """One kind of receiver, and the end of a delivery's first attempt there."""

    name: str
    behaviour: Behaviour | None
    """None: nobody listens."""
    kind: OutcomeKind
    status: int | None = None
    error: str | None = None
    delivery: str = "pending"
    """The delivery's status after it; `pending`, since all others are final."""
    asked_seconds: float = 0.0
    """How long the next attempt has to wait at least."""
    tls: str | None = None
    """Which certificate it has, by its name in `contexts`."""


async def _leaves(visit: Visit) -> None:
    return


async def _leaves_after_the_request(visit: Visit) -> None:
    await visit.request()


def _reset(visit: Visit) -> None:
    sock: socket.socket = visit.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    visit.writer.transport.abort()


async def _resets(visit: Visit) -> None:
    await visit.request()
    _reset(visit)


async def _resets_in_the_body(visit: Visit) -> None:
    await visit.request()
    await visit.say(_OK + b"Content-Length: 100000\r\n\r\n" + b"x" * 1000)
    await asyncio.sleep(DRIP_SECONDS)
    _reset(visit)


async def _hangs(visit: Visit) -> None:
    await visit.request()
    await visit.until_gone()


async def _never_reads(_visit: Visit) -> None:
    await asyncio.sleep(ENDLESS_SECONDS)


async def _speaks_first(visit: Visit) -> None:
    await visit.say(b"220 mail.example ESMTP\r\n")
    await visit.until_gone()


def _drips(begin: bytes, pieces: Iterable[bytes]) -> Behaviour:
    """Begins an answer, and then says a piece now and then."""

    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(begin)
        for piece in pieces:
            await visit.say(piece)
            await asyncio.sleep(DRIP_SECONDS)

    return behaviour


def _floods(begin: bytes, piece: bytes) -> Behaviour:
    """Begins an answer, and then says the same piece without end, as fast as it is read."""

    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(begin)
        while True:
            await visit.say(piece)

    return behaviour


def _says(answer: bytes | Callable[[], bytes]) -> Behaviour:
    """Answers each request of a connection like this and stays."""

    async def behaviour(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.say(answer if isinstance(answer, bytes) else answer())

    return behaviour


def _says_and_leaves(answer: bytes) -> Behaviour:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(answer)

    return behaviour


async def _hangs_in_the_handshake(visit: Visit) -> None:
    await visit.until_gone()


async def _leaves_in_the_handshake(visit: Visit) -> None:
    await visit.reader.read(100)


async def _speaks_no_tls(visit: Visit) -> None:
    await visit.reader.read(100)
    await visit.say(ANSWER)
    await visit.until_gone()


def _status(status: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Status", *headers, "Content-Length: 2", "", "no"]).encode()


def _asked_by_date() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=ASKED_SECONDS), usegmt=True)


@cache
def _bomb() -> bytes:
    """A gigabyte in a megabyte."""
    packed = gzip.compress(b"\0" * (16 << 20)) * 64
    return _OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed


_network = partial(Hostility, kind=OutcomeKind.NETWORK)
_timeout = partial(Hostility, kind=OutcomeKind.TIMEOUT, error=NO_ANSWER)
_taken = partial(Hostility, kind=OutcomeKind.SUCCESS, status=200, delivery="delivered")
_no_http = partial(_network, error=NOT_HTTP)
_refused = partial(Hostility, kind=OutcomeKind.CLIENT_ERROR, delivery="refused")
_elsewhere = partial(Hostility, kind=OutcomeKind.REDIRECTION, delivery="refused")
_later = partial(Hostility, kind=OutcomeKind.CLIENT_ERROR)
_failing = partial(Hostility, kind=OutcomeKind.SERVER_ERROR)

CONNECTIONS = (
    _network(name="refuses", behaviour=None, error="connection refused"),
    _network(name="leaves at once", behaviour=_leaves, error=CLOSED),
    _network(name="leaves after the request", behaviour=_leaves_after_the_request, error=CLOSED),
    _network(name="resets", behaviour=_resets, error=CLOSED),
    _network(name="resets in the body", behaviour=_resets_in_the_body, error=BROKE_OFF),
    _timeout(name="hangs before the head", behaviour=_hangs),
    _timeout(name="never reads", behaviour=_never_reads),
)
DRIPS = (
    _timeout(name="drips a head", behaviour=_drips(_OK + b"X: ", itertools.repeat(b"x"))),
    _timeout(name="drips interim answers", behaviour=_drips(b"", itertools.repeat(b"HTTP/1.1 102 Wait\r\n\r\n"))),
    _timeout(name="drips a body", behaviour=_drips(_OK + b"Content-Length: 99999\r\n\r\n", itertools.repeat(b"x"))),
    _timeout(
        name="drips chunks",
        behaviour=_drips(_OK + b"Transfer-Encoding: chunked\r\n\r\n", itertools.repeat(b"1\r\nx\r\n")),
    ),
)
FLOODS = (
    _taken(name="endless body", behaviour=_floods(_OK + b"\r\n", _PIECE)),
    _taken(name="endless length", behaviour=_floods(_OK + b"Content-Length: 999999999999\r\n\r\n", _PIECE)),
    _taken(name="endless chunks", behaviour=_floods(_OK + b"Transfer-Encoding: chunked\r\n\r\n", _CHUNK)),
    _taken(name="endless extension", behaviour=_floods(_OK + b"Transfer-Encoding: chunked\r\n\r\n1;", _PIECE)),
    _taken(
        name="endless trailers",
        behaviour=_floods(_OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 1000),
    ),
    _taken(name="gzip bomb", behaviour=_says(_bomb)),
    _no_http(name="endless header", behaviour=_floods(_OK + b"X: ", _PIECE)),
    _no_http(name="endless headers", behaviour=_floods(_OK, b"X: y\r\n" * 1000)),
    _no_http(name="endless interim answers", behaviour=_floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)),
    _no_http(name="huge header", behaviour=_says(_OK + b"X: " + b"y" * 100_000 + b"\r\nContent-Length: 0\r\n\r\n")),
    _taken(name="endless crumbs", behaviour=_floods(_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000)),
    _no_http(name="huge reason", behaviour=_says(b"HTTP/1.1 200 " + b"y" * 100_000 + b"\r\n\r\n")),
)
GARBAGE = (
    _network(name="speaks first", behaviour=_speaks_first, error=NOT_HTTP),
    _no_http(name="another protocol", behaviour=_says(b"SSH-2.0-OpenSSH_9.9\r\n")),
    _no_http(name="HTTP/2", behaviour=_says(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64")),
    _no_http(name="nul bytes", behaviour=_floods(b"", b"\0" * 1000)),
    _no_http(name="a status of letters", behaviour=_says(b"HTTP/1.1 abc OK\r\n\r\n")),
    _no_http(name="a header without colon", behaviour=_says(_OK + b"no colon\r\n\r\n")),
    _no_http(name="a length of letters", behaviour=_says(_OK + b"Content-Length: many\r\n\r\n")),
    _no_http(name="a negative length", behaviour=_says(_OK + b"Content-Length: -1\r\n\r\n")),
    _no_http(name="two lengths", behaviour=_says(_OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc")),
    _no_http(name="a bad chunk", behaviour=_says(_OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")),
    _network(
        name="a body shorter than its length",
        behaviour=_says_and_leaves(_OK + b"Content-Length: 100\r\n\r\nabc"),
        error=BROKE_OFF,
    ),
    _network(
        name="chunks that break off",
        behaviour=_says_and_leaves(_OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"),
        error=BROKE_OFF,
    ),
    _network(name="a head that breaks off", behaviour=_says_and_leaves(_OK + b"Content-Le"), error=CLOSED),
    _taken(name="a body longer than its length", behaviour=_says(ANSWER + b"and more, HTTP/1.1 500 No\r\n\r\n")),
    _taken(name="a body of broken text", behaviour=_says(_OK + b"Content-Length: 4\r\n\r\n\xff\0\xed\xa0")),
)
STATUSES = (
    _elsewhere(name="redirects to itself", status=302, behaviour=_says(_status(302, "Location: /"))),
    _elsewhere(
        name="redirects inside",
        status=308,
        behaviour=_says(_status(308, "Location: http://169.254.169.254/latest/meta-data")),
    ),
    _elsewhere(name="says that nothing changed", status=304, behaviour=_says(b"HTTP/1.1 304 Not Modified\r\n\r\n")),
    _refused(name="400", status=400, behaviour=_says(_status(400))),
    _refused(name="404", status=404, behaviour=_says(_status(404))),
    _refused(name="410", status=410, behaviour=_says(_status(410))),
    _later(name="408", status=408, behaviour=_says(_status(408))),
    _later(name="425", status=425, behaviour=_says(_status(425))),
    _later(name="429", status=429, behaviour=_says(_status(429))),
    _later(
        name="429 with seconds",
        status=429,
        behaviour=_says(_status(429, f"Retry-After: {ASKED_SECONDS}")),
        asked_seconds=ASKED_SECONDS,
    ),
    _later(
        name="429 with a date",
        status=429,
        behaviour=_says(lambda: _status(429, f"Retry-After: {_asked_by_date()}")),
        asked_seconds=ASKED_SECONDS - 2,  # a date has whole seconds, and some are over when it is read
    ),
    _later(
        name="429 without end",
        status=429,
        behaviour=_says(_status(429, f"Retry-After: {'9' * 30}")),
        asked_seconds=3600,  # the cap
    ),
    _failing(name="500", status=500, behaviour=_says(_status(500))),
    _failing(name="502", status=502, behaviour=_says(_status(502))),
    _failing(name="503", status=503, behaviour=_says(_status(503))),
    _failing(
        name="503 with seconds",
        status=503,
        behaviour=_says(_status(503, f"Retry-After: {ASKED_SECONDS}")),
        asked_seconds=ASKED_SECONDS,
    ),
    _failing(name="101", status=101, behaviour=_says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")),
    _failing(name="999", status=999, behaviour=_says(_status(999))),
)
TLS = (
    _network(
        name="expired certificate",
        behaviour=_says(ANSWER),
        tls="expired",
        error=f"{UNTRUSTED}certificate has expired",
    ),
    _network(
        name="certificate of another",
        behaviour=_says(ANSWER),
        tls="another's",
        error=f"{UNTRUSTED}IP address mismatch, certificate is not valid for '127.0.0.1'.",
    ),
    _network(
        name="certificate of an unknown authority",
        behaviour=_says(ANSWER),
        tls="unknown",
        error=f"{UNTRUSTED}unable to get local issuer certificate",
    ),
    _timeout(name="hangs in the handshake", behaviour=_hangs_in_the_handshake, tls="none", error=NO_CONNECTION),
    _network(name="leaves in the handshake", behaviour=_leaves_in_the_handshake, tls="none", error=CLOSED),
    _network(name="no TLS", behaviour=_speaks_no_tls, tls="none", error="TLS failed: wrong version number"),
    _timeout(name="hangs behind TLS", behaviour=_hangs, tls="good"),
    _taken(name="endless body behind TLS", behaviour=_floods(_OK + b"\r\n", _PIECE), tls="good"),
    _taken(name="nothing is wrong", behaviour=_says(ANSWER), tls="good"),
)
HOSTILITIES = (*CONNECTIONS, *DRIPS, *FLOODS, *GARBAGE, *STATUSES, *TLS)


def contexts(folder: Path) -> tuple[Path, Mapping[str, ssl.SSLContext]]:
    """The file of the authority to trust, and the servers' contexts by the names that `Hostility.tls` has."""
    trusted, unknown = Authority(), Authority("Another Authority")
    bundle = folder / "authority.pem"
    bundle.write_text(trusted.pem, encoding="ascii")
    expired = trusted.issue("127.0.0.1", until=datetime.now(UTC) - timedelta(hours=1))
    issued = {
        "good": trusted.issue("127.0.0.1"),
        "expired": expired,
        "another's": trusted.issue("127.0.0.9"),
        "unknown": unknown.issue("127.0.0.1"),
    }
    return bundle, {name: _serving(folder / f"{name}.pem", one) for name, one in issued.items()}


def _serving(path: Path, issued: Issued) -> ssl.SSLContext:
    path.write_text(issued.pem, encoding="ascii")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@asynccontextmanager
async def listening(
    hostilities: Iterable[Hostility], served: Mapping[str, ssl.SSLContext]
) -> AsyncIterator[dict[str, tuple[str, Endpoint]]]:
    """All of these at once: the URL of each and who came, by name."""
    async with AsyncExitStack() as stack:
        found = {}
        for one in hostilities:
            endpoint = Endpoint(port=free_port())
            if one.behaviour is not None:
                context = served.get(one.tls or "")
                endpoint = await stack.enter_async_context(behaving(one.behaviour, tls=context))
            found[one.name] = (f"{'https' if one.tls else 'http'}://127.0.0.1:{endpoint.port}/", endpoint)
        yield found
