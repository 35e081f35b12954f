"""What stands before every page: who may send forms, what browsers may do with answers, and the nonce of each answer.

No token is needed in forms: a browser says for which page it sends a request (`Sec-Fetch-Site`, `Origin`), and
requests that say nothing are refused.
"""

from __future__ import annotations

import secrets
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dispatcher.api.problems import Problem
from dispatcher.api.refusals import REFUSAL
from dispatcher.console.failures import failure_page
from dispatcher.console.origins import ROOT, is_own
from shared.settings import Settings

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_STATIC = f"{ROOT}/static/"
_NONCE_BYTES = 16
_FIXED = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types htmx hookline"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Guard:
    """The layer around the console's application."""

    def __init__(self, console: ASGIApp) -> None:
        self._console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["resources"] = scope["app"].state.resources
        state["nonce"] = new_nonce()
        caching = _caching(scope)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*_kept(message["headers"]), *confining(state["nonce"], caching)]
            await send(message)

        request = Request(scope)
        settings: Settings = state["resources"].settings
        if (refusal := state.get(REFUSAL)) is not None:
            await failure_page(request, refusal)(scope, receive, guarded)
        elif scope["method"] not in _SAFE_METHODS and not is_own(request, settings):
            detail = "this request was sent by another site's page, or does not say which page sent it"
            answer = failure_page(request, Problem(403, "cross-site", detail))
            await answer(scope, receive, guarded)
        else:
            await self._console(scope, receive, guarded)


def new_nonce() -> str:
    """What the scripts of one answer must have."""
    return secrets.token_urlsafe(_NONCE_BYTES)


def _kept(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    ours = {name.lower().encode() for name in (*_FIXED, "Cache-Control")}
    return [(name, value) for name, value in fields if name.lower() not in ours]


def confining(nonce: str, caching: str) -> list[tuple[bytes, bytes]]:
    """The headers that confine what a browser does with an answer, with the nonce of its scripts."""
    fields = {**_FIXED, "Cache-Control": caching}
    return [(name.lower().encode(), value.replace("{nonce}", nonce).encode()) for name, value in fields.items()]


def _caching(scope: Scope) -> str:
    """Static files may be kept, under an address that changes with them; a page never."""
    if not scope["path"].startswith(_STATIC):
        return "no-store"
    versioned = "v" in parse_qs(scope["query_string"].decode("latin-1"))
    return "public, max-age=31536000, immutable" if versioned else "no-cache"
