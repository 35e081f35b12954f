"""Counts each request by its route, and how long it took: a route is a path with names in place of what varies."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.observability.saturation_metrics import observe_answer

_FOUND = "hookline.found"
ELSEWHERE = "other"
"""What no route takes."""


class RequestTimes:
    """Outermost but for what reads addresses, so that what is refused on the way is counted, too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500  # a bug, which the server answers

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        found = scope[_FOUND] = {"route": ELSEWHERE}  # layers below may copy the scope, and then share this
        try:
            await self._app(scope, receive, seen)
        finally:
            observe_answer(found["route"], status, time.perf_counter() - began)


class RouteNames:
    """Innermost: names the route when it is known, for `RequestTimes`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        found = scope.get(_FOUND)
        if found is None:
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            path = getattr(scope.get("route"), "path", None)
            if path is not None:
                root = str(scope.get("root_path", ""))
                # Starlette adds to it where an application is mounted, and keeps what it was.
                found["route"] = root.removeprefix(str(scope.get("app_root_path", root))) + path
