"""`/healthz`, `/readyz` and `/metrics`: what load balancers and Prometheus ask, without a key."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel
from redis.exceptions import RedisError, ResponseError
from sqlalchemy.exc import SQLAlchemyError

from dispatcher.api.problems import Problem
from dispatcher.api.resources import ApiResources, ResourcesDep
from dispatcher.api.threads import run_in
from shared.domain.errors import FieldError
from shared.messaging.cluster_clients import check_answer
from shared.observability.exposition import exposition
from shared.storage.database.transactions import read_transaction
from shared.storage.maintenance.installation import keys_fault
from shared.storage.schema.migrate import current_revision, schema_fault
from shared.version import __version__

router = APIRouter(tags=["operations"])

PING_SECONDS = 2.0


class Health(BaseModel):
    """The state of the process."""

    status: str


class EnvironmentWarning(BaseModel):
    """A fault of what the process runs on. It serves nevertheless."""

    fault: str
    """What is wrong, for programs: `descriptors`, `redis_evicts`, `redis_not_durable` or `clock`."""
    detail: str


class Readiness(Health):
    """The state of the process, and what is wrong around it."""

    warnings: list[EnvironmentWarning]


class VersionedHealth(Health):
    """The state of the process, and its version."""

    version: str


@router.get("/healthz")
async def healthz() -> VersionedHealth:
    """Check that the process answers; the answer has its version."""
    return VersionedHealth(status="ok", version=__version__)


@router.get("/readyz")
async def readyz(resources: ResourcesDep) -> Readiness:
    """Check that requests can be served.

    The database has this version's schema or a later one, this process has its keys, and Redis answers. `warnings` says
    what is wrong although requests are served.
    """
    faults = [
        fault
        for fault in (
            await run_in(resources.threads.ready, partial(_database_fault, resources)),
            await _redis_fault(resources),
        )
        if fault
    ]
    if faults:
        raise Problem(503, "unavailable", "; ".join(map(str, faults)), faults, headers={"Retry-After": "1"})
    warnings = [EnvironmentWarning(fault=one.fault, detail=one.text) for one in resources.presence.faults]
    return Readiness(status="ready", warnings=warnings)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(resources: ResourcesDep, accept: Annotated[str, Header(include_in_schema=False)] = "") -> Response:
    """Get Prometheus metrics, as text or, on request, as OpenMetrics."""
    body, content_type = await run_in(resources.threads.ready, partial(exposition, accept))
    return Response(body, headers={"Content-Type": content_type})


def _database_fault(resources: ApiResources) -> FieldError | None:
    try:
        with read_transaction(resources.engine) as connection:
            fault = schema_fault(current_revision(connection))
            keys = keys_fault(connection, resources.vault) if fault is None else None
    except SQLAlchemyError as exc:
        return FieldError(("database",), f"can't be reached ({type(exc).__name__})")
    if keys is not None:
        return FieldError(("secret_keys",), keys)
    return None if fault is None else FieldError(("database",), fault)


def _why_not_redis(exc: Exception) -> str:
    """A server that answers with an error can be reached: its first word, such as MISCONF, says what it has."""
    if isinstance(exc, ResponseError):
        return f"answers with an error ({str(exc).partition(' ')[0]}): its log says why"
    return f"can't be reached ({type(exc).__name__})"


async def _redis_fault(resources: ApiResources) -> FieldError | None:
    try:
        async with asyncio.timeout(PING_SECONDS):
            await check_answer(resources.redis)
    except (RedisError, OSError, TimeoutError) as exc:
        return FieldError(("redis",), _why_not_redis(exc))
    return None
