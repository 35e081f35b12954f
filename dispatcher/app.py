"""The API application: its routers, what it opens and closes, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from dispatcher.api import (
    audit,
    automations,
    catalog,
    deliveries,
    dry_runs,
    event_log,
    events,
    health,
    identity,
    inbound,
    instance,
    invitations,
    manifests,
    members,
    operations,
    pages,
    payload_templates,
    problems,
    revisions,
    secrets,
    series,
    slack,
    sources,
    wandb_files,
    webhook_trials,
    webhooks,
)
from dispatcher.api.cross_origin import CrossOrigin
from dispatcher.api.fair_use import FairUse
from dispatcher.api.idempotency import Idempotency
from dispatcher.api.middleware import Bounds, Browsers, ConditionalReads, Methods, RequestIds
from dispatcher.api.openapi import HooklineApi
from dispatcher.api.operation_index import OperationIndex
from dispatcher.api.path_names import EncodedSlashes
from dispatcher.api.proxies import Proxied
from dispatcher.api.request_log import RequestLog
from dispatcher.api.request_times import RequestTimes, RouteNames
from dispatcher.api.resources import open_resources
from dispatcher.console.app import mount_console
from dispatcher.console.polls import QuietPolls
from dispatcher.graphql import endpoint as graphql
from shared.observability import exposition
from shared.settings import Settings, load_settings
from shared.version import __version__

_ROUTERS = (
    events.router,
    event_log.router,
    automations.router,
    dry_runs.router,
    series.router,
    webhook_trials.router,
    webhooks.router,
    slack.router,
    sources.router,
    inbound.router,
    revisions.router,
    secrets.router,
    deliveries.router,
    manifests.router,
    payload_templates.router,
    catalog.router,
    identity.router,
    members.router,
    invitations.router,
    audit.router,
    health.router,
    instance.router,
    operations.router,
    pages.router,
    graphql.router,
    wandb_files.router,
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application on the given settings, or on those of the environment.

    It opens its resources by `app.state.settings` at each start, so one application can serve several settings, one
    after another.
    """
    app = HooklineApi(
        title="Hookline",
        version=__version__,
        summary="Calls webhooks when models, artifacts and runs change.",
        lifespan=_lifespan,
        responses=problems.RESPONSES,
        redirect_slashes=False,
        docs_url=None,  # `pages` has them
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        # Hookline traces by itself (`shared.observability.tracing`); FastAPI would look at each request whether to.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.settings = settings or load_settings()
    problems.install(app)
    for router in _ROUTERS:
        app.include_router(router)
    pages.mount_assets(app)
    if app.state.settings.console:
        mount_console(app)
    app.state.operation_index = OperationIndex(app)
    # The last is the outermost.
    for layer in (
        RouteNames,
        Idempotency,
        FairUse,
        ConditionalReads,
        Bounds,
        Methods,
        CrossOrigin,
        Browsers,
        EncodedSlashes,
        QuietPolls,
        RequestTimes,
        RequestLog,
        RequestIds,
        Proxied,
    ):
        app.add_middleware(layer)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    exposition.announce_build()
    async with open_resources(app.state.settings) as resources:
        app.state.resources = resources
        yield
