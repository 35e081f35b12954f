"""The API application: its routers, what it opens and closes, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from dispatcher.api import (
    automations,
    catalog,
    deliveries,
    events,
    identity,
    manifests,
    operations,
    problems,
    secrets,
    webhooks,
)
from dispatcher.api.parts import opened
from dispatcher.api.problems import Problem
from shared import telemetry
from shared.settings import Settings, load_settings
from shared.version import __version__

_ROUTERS = (
    events.router,
    automations.router,
    webhooks.router,
    secrets.router,
    deliveries.router,
    manifests.router,
    catalog.router,
    identity.router,
    operations.router,
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application on the given settings, or on those of the environment."""
    settings = settings or load_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        telemetry.announce_build()
        async with opened(settings) as parts:
            app.state.parts = parts
            yield

    app = FastAPI(
        title="Hookline",
        version=__version__,
        summary="Calls webhooks about what happens to models.",
        lifespan=lifespan,
        responses=problems.RESPONSES,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    problems.install(app)
    for router in _ROUTERS:
        app.include_router(router)
    app.add_middleware(NulFree)
    return app


class NulFree:
    """Refuses a URL with an encoded U+0000, which PostgreSQL can't look for, before any handler sees it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and ("\0" in scope["path"] or b"%00" in scope["query_string"]):
            refusal = problems.answer(Problem(400, "bad-request", "a URL must not contain U+0000"))
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)
