"""How the operators' commands print a request on its way: its URL, headers, sizes, connection and timings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_STEPS = {"lookup_ms": "look-up", "connect_ms": "connect", "handshake_ms": "TLS", "first_byte_ms": "first byte"}
MEMBERS = ("request", "response_headers", "response_headers_truncated", "response_bytes", "connection", "timings")
"""Those of `shared.domain.delivery.exchange.shown_exchange`."""


def exchange_members(row: Mapping[str, Any]) -> dict[str, object]:
    """The members of an exchange for `print_members`: what is known, a text each; none where nothing was kept."""
    request, connection = row["request"], row["connection"]
    if request is None:
        return {}
    address = connection["remote_address"]
    steps = [f"{name} {row['timings'][step]:g} ms" for step, name in _STEPS.items() if row["timings"][step] is not None]
    return {
        "request": f"POST {request['url']}",
        "request_headers": "\n".join(f"{name}: {value}" for name, value in request["headers"].items()),
        "request_bytes": request["bytes"],
        "address": f"{address} (connection used before)" if connection["reused"] else address,
        "tls_version": connection["tls_version"],
        "timings": ", ".join(steps),
        "response_headers": _headers(row),
        "response_bytes": row["response_bytes"],
    }


def _headers(row: Mapping[str, Any]) -> str:
    lines = [f"{one['name']}: {one['value']}" if one["name"] else one["value"] for one in row["response_headers"] or ()]
    return "\n".join([*lines, *["…"] * row["response_headers_truncated"]])
