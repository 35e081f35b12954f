"""What the `wandb` client sends of its runs besides GraphQL: the stream of each run, and files, which are dropped.

All of it is answered as an unknown path while HOOKLINE_WANDB_RUNS is off.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from fastapi import APIRouter, Depends, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dispatcher.api.authentication import CallerDep
from dispatcher.api.bodies import RUN_UPLOADS, read_body
from dispatcher.api.caller_cache import Caller
from dispatcher.api.events import refused_rates
from dispatcher.api.path_names import PathName
from dispatcher.api.problems import Problem
from dispatcher.api.resources import ApiResources, ResourcesDep
from dispatcher.api.threads import run_in
from dispatcher.control.access import Action, require
from dispatcher.wandb_runs.events import RunEvents
from dispatcher.wandb_runs.runs import remember
from dispatcher.wandb_runs.streams import MAX_STREAM_BYTES, WRITER_HEADER, Plan, StreamRequest, read_request, writer_of
from dispatcher.wandb_runs.uploads import HEADER, user_of
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.events.values import NAME_FORM, is_name
from shared.observability.logs import get_logger
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.wandb_runs import (
    StoredRun,
    find_run,
    mark_streamed,
    wandb_run_key,
    write_progress,
    write_streamed,
)

log = get_logger("hookline.api")
PROGRESS_SECONDS = 3.0
"""How often it is written down what is published of a long request."""


async def _switched_on(resources: ResourcesDep) -> None:
    if not resources.settings.wandb_runs:
        raise HTTPException(404)


# First, so that without it nobody is asked for a key.
router = APIRouter(dependencies=[Depends(_switched_on)], include_in_schema=False)


@router.post("/files/{entity}/{project}/{run}/file_stream")
async def stream(
    request: Request,
    entity: PathName,
    project: PathName,
    run: PathName,
    caller: CallerDep,
    resources: ResourcesDep,
) -> Response:
    """Take what a run logged since its last request; answered once the streams have its events."""
    body = await read_body(request, MAX_STREAM_BYTES, what="a request of a run's stream")
    threads, of = resources.threads.publishing, _RunPath(entity, project, run)
    asked = await run_in(threads, partial(read_request, body))
    del body
    writer = writer_of(request.headers.get(WRITER_HEADER, ""))
    plan = await run_in(threads, partial(_planned, resources, caller, of, asked, writer))
    try:
        await _publish(resources, plan)
    except Exception:
        await run_in(threads, partial(_write_progress, resources, plan))
        raise
    await run_in(threads, partial(_write_down, resources, plan))
    return Response(b"{}", media_type="application/json")


async def _publish(resources: ApiResources, plan: Plan) -> None:
    """Publish a request's events. Only the first batch may be over the entity's rate: the client repeats all or none.

    What is published is written down in between, so a request that comes again while this one lasts, or after this
    process was killed, skips it.
    """
    threads, batches = resources.threads.publishing, plan.batches()
    begun, written = False, time.monotonic()
    while batch := await run_in(threads, partial(next, batches, None)):
        with refused_rates():
            await resources.event_rates.take_of(plan.of.entity, len(batch[0]), begun=begun)
        await resources.publisher.append(*batch)
        begun, plan.published_lines = True, plan.sure_lines
        if time.monotonic() - written > PROGRESS_SECONDS:
            await run_in(threads, partial(_write_progress, resources, plan))
            written = time.monotonic()


class _RunPath:
    """The names in a stream's path. Raises InvalidDefinition."""

    def __init__(self, entity: str, project: str, run: str) -> None:
        named = (("entity", entity), ("project", project), ("run", run))
        faults = [
            FieldError((what,), f"must be {NAME_FORM}, and without /")
            for what, name in named
            if not is_name(name) or "/" in name
        ]
        if faults:
            raise InvalidDefinition(*faults)
        self.entity, self.project, self.run = entity, project, run
        self.key = wandb_run_key(entity, project, run)


def _planned(resources: ApiResources, caller: Caller, of: _RunPath, asked: StreamRequest, writer: str) -> Plan:
    """What to publish. A run that is not known, or was forgotten, begins here. Raises Forbidden, NotFound."""
    now, heartbeat = datetime.now(UTC), resources.settings.wandb_heartbeat
    with read_transaction(resources.engine) as connection:
        owner = require(connection, caller.principal, of.entity, Action.PUBLISH)
        run = find_run(connection, of.key)
    if run is None:
        with write_transaction(resources.engine) as connection:
            remember(connection, owner, of.project, of.run, {}, told_at=now - heartbeat)
            run = find_run(connection, of.key)
    if run is None:
        raise Problem(
            503, "unavailable", "the run was forgotten at this moment: try again", headers={"Retry-After": "1"}
        )
    if not run.streamed:
        with write_transaction(resources.engine) as connection:
            mark_streamed(connection, run)
        run = replace(run, streamed=True)
    return Plan(RunEvents(of.entity, caller.principal.user_name, run, writer), asked, heartbeat, now)


def _write_progress(resources: ApiResources, plan: Plan) -> None:
    if plan.published_lines and plan.goes_on:
        with write_transaction(resources.engine) as connection:
            write_progress(connection, plan.of.run, plan.published_lines)


def _write_down(resources: ApiResources, plan: Plan) -> None:
    run: StoredRun = plan.of.run
    if plan.unread_lines:
        log.warning("wandb.lines_unread", entity=plan.of.entity, run=run.run, lines=plan.unread_lines)
    if (what := plan.written()) is not None:
        with write_transaction(resources.engine) as connection:
            write_streamed(connection, run, what, plan.now)


@router.put(RUN_UPLOADS)
async def upload(request: Request, resources: ResourcesDep) -> Response:
    """Take a file of a run, and drop it as it comes. The token comes with the URL, in `uploadHeaders`."""
    user_id = await _user_of(request, resources)
    with resources.threads.uploads.hold(user_id):
        try:
            async for _ in request.stream():
                pass
        except ClientDisconnect:
            raise Problem(400, "client-left", "the connection ended before the file was read") from None
    return Response(status_code=200)


async def _user_of(request: Request, resources: ApiResources) -> int:
    user_id = user_of(resources.vault, request.headers.get(HEADER, ""), datetime.now(UTC))
    if user_id is None:
        raise Problem(403, "forbidden", f"an upload needs the header {HEADER} that came with its URL, of the last day")
    return user_id
