"""Other sites' pages may call the API from browsers, if HOOKLINE_CORS_ORIGINS names them: with a key, without cookies.

https://fetch.spec.whatwg.org/#http-cors-protocol. The console is left out: its pages are for its own visitors.
"""

from __future__ import annotations

import re

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

_OPEN = re.compile(r"/v1/.*|/graphql|/openapi\.json", re.DOTALL)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_SENT = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "X-Request-ID")
_SHOWN = ("ETag", "Hookline-Key-Expires", "Idempotent-Replayed", "Retry-After", "X-Request-ID")
_REMEMBERED_SECONDS = 600
"""How long a browser remembers what it was allowed."""


class CrossOrigin:
    """Answers preflights of the origins that are named, and lets their pages read answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._allowing: tuple[tuple[str, ...], CORSMiddleware] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        origins = scope["app"].state.settings.cors_origins if scope["type"] == "http" else ()
        if not origins or not _OPEN.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        if self._allowing is None or self._allowing[0] != origins:
            self._allowing = (
                origins,
                CORSMiddleware(
                    self._app,
                    allow_origins=origins,
                    allow_methods=_METHODS,
                    allow_headers=_SENT,
                    expose_headers=_SHOWN,
                    allow_credentials=False,
                    max_age=_REMEMBERED_SECONDS,
                ),
            )
        await self._allowing[1](scope, receive, send)
