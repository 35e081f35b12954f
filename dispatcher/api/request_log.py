"""A line in the log for each request, where HOOKLINE_REQUEST_LOG asks for it. Must not log queries, bodies or keys."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.observability.logs import get_logger

log = get_logger("hookline.api")


class RequestLog:
    """Logs what was asked, by whom, and what was answered, once the answer has been sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection. The client's address and the request's id are in each line of the request."""
        if scope["type"] != "http" or not scope["app"].state.settings.request_log:
            await self._app(scope, receive, send)
            return
        began, status, sent_bytes = time.perf_counter(), 0, 0

        async def counted(message: Message) -> None:
            nonlocal status, sent_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
            sent_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            log.info(
                "api.request",
                method=scope["method"],
                path=scope["path"],
                status=status or 500,  # a bug, which the server answers
                response_bytes=sent_bytes,
                duration_ms=round((time.perf_counter() - began) * 1000, 1),
            )
