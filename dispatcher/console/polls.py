"""The layer that answers open pages that ask for news where nothing can be new: before routes, threads and database.

A hundred pages that are left open ask some ten times a second. Most of these answers are 204, and cost as much as this.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from dispatcher.console.guard import confining, new_nonce
from dispatcher.console.preferences import HIDDEN_COOKIE
from dispatcher.console.quiet import QuietEntities
from dispatcher.console.visitors import presented_token

_POLL = re.compile(r"/console/e/([^/]+)/(deliveries/news|alerts)")
_NO_NEWS = {"type": "http.response.body", "body": b""}


class QuietPolls:
    """The layer around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        poll = None if scope["type"] != "http" or scope["method"] != "GET" else _POLL.fullmatch(scope["path"])
        if poll is None or not _is_quiet(scope, poll[1], poll[2]):
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 204, "headers": confining(new_nonce(), "no-store")})
        await send(_NO_NEWS)


def _is_quiet(scope: Scope, entity: str, what: str) -> bool:
    quiet: QuietEntities | None = getattr(scope["app"].state, "quiet", None)
    if quiet is None:
        return False
    request = Request(scope)
    token = presented_token(request, scope["app"].state.resources.settings)
    if not token:
        return False
    asked = parse_qs(scope["query_string"].decode("latin-1"))
    if what == "alerts":
        hidden = request.cookies.get(HIDDEN_COOKIE, "")
        return quiet.has_no_alert(token, entity, hidden, asked.get("seen", [""])[-1])
    known = asked.get("known", ["0"])[-1]
    return known.isascii() and known.isdigit() and quiet.has_no_news(token, entity, int(known[:20]))
