"""ASGI layers around every request: its id, browsers, HEAD and OPTIONS, bounds of URL and body, conditional reads.

Plain ASGI layers, since each event passes through all of them. Must not look into bodies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, MutableMapping
from typing import Any
from uuid import uuid4

import structlog
from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dispatcher.api import problems
from dispatcher.api.bodies import HEAD_ONLY, limit_bytes_of
from dispatcher.api.caller_cache import KEY_EXPIRES_AT
from dispatcher.api.cloud_events import handshake_answer
from dispatcher.api.etags import names_tag
from dispatcher.api.operation_index import operation_index
from dispatcher.api.pages import ASSETS
from dispatcher.api.problems import Problem, too_large
from dispatcher.api.refusals import CONSOLE, refuse

REQUEST_ID = "X-Request-ID"
KEY_EXPIRES = "Hookline-Key-Expires"
"""The header that tells when the request's key ends, in the last two weeks."""
_FIT_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


class RequestIds:
    """Gives each request an id, its own if it brings a fit one: in every log line about it, and in the answer.

    The client's address is in those lines too, which `Proxied` has found out before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        brought = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = brought if _FIT_ID.fullmatch(brought) else uuid4().hex
        # It is not unbound, since the server logs a bug after this layer is left. Each request is a task with its own
        # context, so the id does not get into others.
        client = scope.get("client")
        structlog.contextvars.bind_contextvars(request_id=request_id, client=client[0] if client else None)
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id

        async def identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                if (expires_at := state.get(KEY_EXPIRES_AT)) is not None:
                    headers[KEY_EXPIRES] = f"{expires_at:%Y-%m-%dT%H:%M:%SZ}"
            await send(message)

        await self._app(scope, receive, identified)


_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_OWN_PAGES = frozenset({"", "same-origin", "none"})
"""The values of Sec-Fetch-Site of requests from our own pages and of typed addresses. Only browsers send the header."""
_GUARDS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""The last is not for the pages' scripts and styles."""


class Browsers:
    """Refuses requests that another site's page made a browser send, and confines what browsers do with answers.

    A browser adds a Basic key, once it was entered, to requests that any page makes. The page can't read the answer,
    but its POST takes effect. A Bearer key is added only by a program that has it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_asset = scope["path"].startswith(f"{ASSETS}/")

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _guarded(message["headers"], is_asset=is_asset)
            await send(message)

        is_guarded = scope["path"].startswith(CONSOLE)  # more strictly, by the console itself
        if scope["method"] not in _SAFE_METHODS and not is_guarded and _is_of_another_site(Headers(scope=scope)):
            detail = "a browser sent this for a page of another site; programs must not send Origin or Sec-Fetch-Site"
            await problems.answer(Problem(403, "cross-site", detail))(scope, receive, guarded)
        else:
            await self._app(scope, receive, guarded)


def _guarded(fields: Iterable[tuple[bytes, bytes]], *, is_asset: bool) -> list[tuple[bytes, bytes]]:
    """An answer's header fields with those that confine it, where it has none of its own."""
    own = [(name.lower(), value) for name, value in fields]
    names = {name for name, _ in own}
    return [*own, *(field for field in (_GUARDS[:-1] if is_asset else _GUARDS) if field[0] not in names)]


def _is_of_another_site(headers: Headers) -> bool:
    """Whether a browser says so. Where it can't (plain http, or an old one), whether the page's host is another one."""
    if headers.get("authorization", "").lower().startswith("bearer "):
        return False
    if (site := headers.get("sec-fetch-site")) is not None:
        return site.lower() not in _OWN_PAGES
    origin = headers.get("origin")
    return origin is not None and origin.lower().partition("://")[2] != headers.get("host", "").lower()


class Methods:
    """Answers HEAD as GET without the body, and OPTIONS with what the URL allows (RFC 9110 sections 9.3.2, 9.3.7)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            state = {**scope.get("state", {}), HEAD_ONLY: True}
            await self._app({**scope, "method": "GET", "state": state}, receive, _without_body(send))
        elif scope["type"] == "http" and scope["method"] == "OPTIONS" and (allowed := _allowed_methods(scope)):
            fields = {"Allow": allowed}
            if (handshake := handshake_answer(scope["path"], Headers(scope=scope))) is not None:
                # Senders such as Azure Event Grid ask for 200.
                await Response(status_code=200, headers=fields | handshake)(scope, receive, send)
                return
            await Response(status_code=204, headers=fields)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _allowed_methods(scope: Scope) -> str:
    return ", ".join(sorted(operation_index(Request(scope)).methods(scope["path"])))


def _without_body(send: Send) -> Send:
    async def bodiless(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return bodiless


class Bounds:
    """Refuses a URL that PostgreSQL can't look for (U+0000), and a body over the limit of its path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit_bytes = limit_bytes_of(scope["path"])
        refusal = _refusal(scope, limit_bytes)
        if refusal is not None:
            await refuse(self._app, refusal, scope, receive, send)
            return
        await self._app(scope, _within_limit(receive, limit_bytes), send)


def _refusal(scope: Scope, limit_bytes: int) -> Problem | None:
    if "\0" in scope["path"] or b"%00" in scope["query_string"]:
        return Problem(400, "bad-request", "a URL must not contain U+0000")
    declared = Headers(scope=scope).get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limit_bytes:
        return too_large("the body", limit_bytes)
    return None


def _within_limit(receive: Receive, limit_bytes: int) -> Receive:
    seen_bytes = 0

    async def bounded() -> Message:
        nonlocal seen_bytes
        message = await receive()
        seen_bytes += len(message.get("body", b""))
        if seen_bytes > limit_bytes:
            raise too_large("the body", limit_bytes)
        return message

    return bounded


class ConditionalReads:
    """Answers a GET whose If-None-Match names the answer's ETag with 304 and no body (RFC 9110 section 13.1.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        wanted = Headers(scope=scope).get("if-none-match") if scope["type"] == "http" else None
        if wanted is None or scope["method"] != "GET":
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, _unless_same(send, wanted))


def _unless_same(send: Send, wanted: str) -> Send:
    same = False

    async def conditional(message: Message) -> None:
        nonlocal same
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            same = message["status"] == 200 and names_tag(wanted, headers.get("etag"))
            if same:
                message["status"] = 304
                del headers["content-length"]
                del headers["content-type"]
        elif same:
            message = {**message, "body": b""}
        await send(message)

    return conditional
