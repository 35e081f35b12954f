"""The console's application, mounted apart from REST, so that neither answers in the form of the other."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles

from dispatcher.console import failures
from dispatcher.console.alerts import LagWatch
from dispatcher.console.guard import Guard
from dispatcher.console.origins import ROOT
from dispatcher.console.pages import (
    admin_entities,
    admin_health,
    admin_users,
    audit,
    automation_editor,
    automations,
    deliveries,
    events,
    live,
    manifest,
    me,
    members,
    oidc,
    overview,
    projects,
    replays,
    revisions,
    secrets,
    series,
    slack,
    source_forms,
    sources,
    start,
    webhook_forms,
    webhooks,
    why,
)
from dispatcher.console.quiet import QuietEntities

ROUTERS = (
    start.router,
    oidc.router,
    me.router,
    overview.router,
    revisions.router,  # before those whose paths would fit its
    automation_editor.router,  # before automations, some of whose paths would fit its
    automations.router,
    live.router,  # before those whose paths would fit its
    replays.router,  # before deliveries, some of whose paths would fit its
    deliveries.router,
    events.router,
    projects.router,
    why.router,
    webhook_forms.router,  # before webhooks, some of whose paths would fit its
    webhooks.router,
    slack.router,
    source_forms.router,  # before sources, some of whose paths would fit its
    sources.router,
    secrets.router,
    series.router,
    members.router,
    audit.router,
    manifest.router,
    admin_health.router,
    admin_entities.router,
    admin_users.router,
)
STATIC = Path(__file__).with_name("static")


def mount_console(app: FastAPI) -> None:
    """Serve the console under `/console`, from the resources of the application that it is mounted in."""
    console = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    console.state.lag = LagWatch()
    app.state.quiet = console.state.quiet = QuietEntities()  # for `QuietPolls`, too, which is before all routes
    failures.install(console)
    for router in ROUTERS:
        console.include_router(router)
    console.mount("/static", StaticFiles(directory=STATIC))
    app.add_api_route(ROOT, _to_the_start, methods=["GET"], include_in_schema=False)
    app.add_api_route("/{entity}/settings/webhooks", _to_the_webhooks, methods=["GET"], include_in_schema=False)
    app.mount(ROOT, Guard(console))


async def _to_the_webhooks(entity: str) -> RedirectResponse:
    """Lead from the address that scripts for W&B print to an entity's webhooks."""
    return RedirectResponse(f"{ROOT}/e/{quote(entity, safe='')}/settings/webhooks")


async def _to_the_start() -> RedirectResponse:
    """Lead from the address without its last slash to the console."""
    return RedirectResponse(f"{ROOT}/")
