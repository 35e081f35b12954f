"""Requests are counted by their route, whichever layers copied what they were asked on the way."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from prometheus_client import REGISTRY
from starlette.types import ASGIApp, Receive, Scope, Send

from dispatcher.api.request_times import RequestTimes, RouteNames


class Copies:
    """A layer as those that change a path or a method."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope}, receive, send)


@pytest.fixture
def app() -> FastAPI:
    """An application with a route, one that breaks, and another application mounted as the console is."""
    app, console = FastAPI(), FastAPI()

    @app.get("/v1/entities/{entity}")
    def shown(entity: str) -> str:
        if entity == "none":
            raise HTTPException(404)
        if entity == "bug":
            raise ZeroDivisionError
        return entity

    @console.get("/e/{entity}")
    def page(entity: str) -> str:
        return entity

    app.mount("/console", console)
    for layer in (RouteNames, Copies, RequestTimes):
        app.add_middleware(layer)
    return app


def _counted(route: str, status: str) -> float:
    return REGISTRY.get_sample_value("hookline_api_requests_total", {"route": route, "status": status}) or 0


@pytest.mark.parametrize(
    ("path", "route", "status"),
    [
        ("/v1/entities/acme", "/v1/entities/{entity}", "2xx"),
        ("/v1/entities/none", "/v1/entities/{entity}", "4xx"),
        ("/v1/entities/bug", "/v1/entities/{entity}", "5xx"),
        ("/console/e/acme", "/console/e/{entity}", "2xx"),
        ("/nowhere/at/all", "other", "4xx"),
    ],
)
def test_a_request_is_counted_by_its_route(app: FastAPI, path: str, route: str, status: str) -> None:
    async def ask() -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://hookline") as client:
            await client.get(path)

    before = _counted(route, status)
    asyncio.run(ask())
    assert _counted(route, status) == before + 1
    assert (REGISTRY.get_sample_value("hookline_api_request_seconds_count", {"route": route}) or 0) > 0
