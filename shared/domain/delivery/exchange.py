"""A request on its way and its answer: headers, sizes, the connection, and how long each step took.

It is kept with the attempt as one JSON text, `stored_exchange`; `read_exchange` reads what any version wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

SHOWN_HEADER_BYTES = 2 << 10
"""How much of an answer's headers is shown and stored. Common servers send 200 to 1,500 bytes."""


class Exchange(NamedTuple):
    """A request on its way. Until it is masked, `answer_headers` may hold secrets that the endpoint repeated."""

    sent_bytes: int = 0
    """The request, head and body; 0 where none was sent."""
    received_bytes: int = 0
    """What was read of the answer, head and body."""
    answer_headers: str = ""
    """A line `name: value` for each, as they came. Cookies are left out: they are credentials of the endpoint's."""
    headers_truncated: bool = False
    remote_address: str | None = None
    """`address:port`, which was connected to, or was tried last."""
    tls_version: str | None = None
    reused: bool = False
    """Whether the connection had served a request before: then nothing was looked up or connected to."""
    lookup_seconds: float | None = None
    connect_seconds: float | None = None
    """TCP alone."""
    handshake_seconds: float | None = None
    """TLS, which plain http has none of."""
    first_byte_seconds: float | None = None
    """From when the request was written until the first byte of the answer."""


class StoredExchange(NamedTuple):
    """An exchange as it was kept, with the request's headers, both without secrets. Times are in milliseconds."""

    request_headers: list[tuple[str, str]]
    answer_headers: list[tuple[str, str]]
    headers_truncated: bool
    sent_bytes: int
    received_bytes: int
    remote_address: str | None
    tls_version: str | None
    reused: bool
    lookup_ms: float | None
    connect_ms: float | None
    handshake_ms: float | None
    first_byte_ms: float | None


def stored_exchange(exchange: Exchange, request_headers: Mapping[str, str]) -> str:
    """An exchange as JSON text. Its headers, and those of the request, have to be masked."""
    row: dict[str, object] = {
        "sent": exchange.sent_bytes,
        "request": "\n".join([f"{name}: {value}" for name, value in request_headers.items()]),
    }
    for name, value in (
        ("received", exchange.received_bytes),
        ("answer", exchange.answer_headers),
        ("truncated", exchange.headers_truncated),
        ("address", exchange.remote_address),
        ("tls", exchange.tls_version),
        ("reused", exchange.reused),
    ):
        if value:
            row[name] = value
    for name, seconds in (
        ("lookup", exchange.lookup_seconds),
        ("connect", exchange.connect_seconds),
        ("handshake", exchange.handshake_seconds),
        ("first_byte", exchange.first_byte_seconds),
    ):
        if seconds is not None:
            row[name] = round(seconds * 1000, 2)
    return orjson.dumps(row).decode()


def read_exchange(text: str) -> StoredExchange:
    """The exchange that `stored_exchange` wrote."""
    row = orjson.loads(text)
    return StoredExchange(
        request_headers=header_pairs(row.get("request", "")),
        answer_headers=header_pairs(row.get("answer", "")),
        headers_truncated=row.get("truncated", False),
        sent_bytes=row["sent"],
        received_bytes=row.get("received", 0),
        remote_address=row.get("address"),
        tls_version=row.get("tls"),
        reused=row.get("reused", False),
        lookup_ms=row.get("lookup"),
        connect_ms=row.get("connect"),
        handshake_ms=row.get("handshake"),
        first_byte_ms=row.get("first_byte"),
    )


def shown_exchange(url: str | None, exchange: StoredExchange | None, *, hidden: bool = False) -> dict[str, Any]:
    """An attempt's URL and exchange as the members that people and programs see; all null where nothing was kept.

    `hidden`: without what came from the endpoint, and where it is.
    """
    if exchange is None:
        return {
            "request": None,
            "response_headers": None,
            "response_headers_truncated": False,
            "response_bytes": None,
            "connection": None,
            "timings": None,
        }
    return {
        "request": {
            "url": url,
            "headers": dict(exchange.request_headers),
            "bytes": exchange.sent_bytes,
        },
        "response_headers": None
        if hidden
        else [{"name": name, "value": value} for name, value in exchange.answer_headers],
        "response_headers_truncated": exchange.headers_truncated,
        "response_bytes": exchange.received_bytes,
        "connection": {
            "remote_address": None if hidden else exchange.remote_address,
            "tls_version": exchange.tls_version,
            "reused": exchange.reused,
        },
        "timings": {
            "lookup_ms": exchange.lookup_ms,
            "connect_ms": exchange.connect_ms,
            "handshake_ms": exchange.handshake_ms,
            "first_byte_ms": exchange.first_byte_ms,
        },
    }


def header_pairs(lines: str) -> list[tuple[str, str]]:
    """Lines `name: value` as pairs; what a cut has left of a line, or a text that is no header, has a blank name."""
    found = []
    for line in lines.split("\n") if lines else ():
        name, colon, value = line.partition(": ")
        found.append((name, value) if colon and " " not in name else ("", line))
    return found
