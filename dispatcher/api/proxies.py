"""What a proxy in front hides is put back: the client's address, the scheme that it used, and the prefix of the path.

`X-Forwarded-For` and `X-Forwarded-Proto` count from trusted proxies only (HOOKLINE_TRUSTED_PROXIES): anybody can send
them. `X-Forwarded-For` is read from its end, where the proxy that is nearest wrote, up to the first address that is no
proxy's; whatever a client wrote before that is not believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.config.setting_types import Network
from shared.settings import Settings

_MAX_HOPS = 20
"""The most addresses of X-Forwarded-For that are looked at, from its end."""


class Proxied:
    """The outermost layer: what is inside sees a request as the client made it, without the prefix."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        settings: Settings = scope["app"].state.settings
        scope.setdefault("state", {})  # shared by the copies, since whoever answers a bug has this scope
        scope = _as_sent(scope, settings.trusted_proxies)
        if settings.root_path:
            scope, send = _without_prefix(scope, settings.root_path), _with_prefix(send, settings.root_path)
        await self._app(scope, receive, send)


def _as_sent(scope: Scope, trusted: Sequence[Network]) -> Scope:
    peer = scope.get("client")
    if peer is not None and not _is_within(peer[0], trusted):
        return scope
    headers = Headers(scope=scope)
    changed: dict[str, object] = {}
    hops = [hop.strip() for line in headers.getlist("x-forwarded-for") for hop in line.split(",")]
    if (client := client_of(hops, trusted)) is not None:
        changed["client"] = (client, 0)
    scheme = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
    if scheme in ("http", "https"):
        changed["scheme"] = scheme
    return {**scope, **changed}


def client_of(hops: Sequence[str], trusted: Sequence[Network]) -> str | None:
    """The address of who sent a request, by the addresses that the proxies on its way wrote down, the last one last.

    That is the last one that is no trusted proxy's; the first one, if all are. None where there is none, or none before
    a text that is no address: who wrote that can't be told.
    """
    found = None
    for hop in reversed(hops[-_MAX_HOPS:]):
        address = _address(hop)
        if address is None:
            return found
        found = str(address)
        if not _is_within(found, trusted):
            return found
    return found


def _is_within(host: str, networks: Sequence[Network]) -> bool:
    address = _address(host)
    return address is not None and any(address in network for network in networks)


@lru_cache(maxsize=1024)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The address in a text; some proxies write its port too, and IPv6 in brackets."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _without_prefix(scope: Scope, prefix: str) -> Scope:
    """The request without the prefix; as it is where it has none, as health checks that pass no proxy."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    # The prefix has no escapes: whoever spells it with some asks for nothing that is there.
    if raw != prefix.encode() and not raw.startswith(f"{prefix}/".encode()):
        return scope
    return {**scope, "path": scope["path"][len(prefix) :] or "/", "raw_path": raw[len(prefix) :] or b"/"}


def _with_prefix(send: Send, prefix: str) -> Send:
    """Answers that lead on within Hookline lead on below the prefix."""

    async def prefixed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            onward = headers.get("location", "")
            if onward.startswith("/") and not onward.startswith("//"):
                headers["location"] = f"{prefix}{onward}"
        await send(message)

    return prefixed
