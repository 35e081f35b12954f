"""Authentication: `Authorization: Bearer <key>`, or Basic with the key as password, as the wandb client sends it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBasic, HTTPBasicCredentials, HTTPBearer

from dispatcher.api.callers import Caller
from dispatcher.api.parts import PartsDep
from dispatcher.api.problems import Problem
from shared.storage.identity import Principal, hash_key

_bearer = HTTPBearer(auto_error=False, description="An API key.")
_basic = HTTPBasic(auto_error=False, description="An API key as the password; the user name is `api`.")


async def _caller(
    parts: PartsDep,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    basic: Annotated[HTTPBasicCredentials | None, Depends(_basic)],
) -> Caller:
    key = bearer.credentials if bearer is not None else basic.password if basic is not None else ""
    if not key:
        raise _unauthenticated("an API key is required: Authorization: Bearer <key>")
    digest = hash_key(key)
    caller = parts.callers.known(digest) or await run_in_threadpool(parts.callers.look_up, digest)
    if caller is None:
        raise _unauthenticated("this API key is unknown or revoked")
    return caller


def _unauthenticated(detail: str) -> Problem:
    return Problem(401, "unauthenticated", detail, headers={"WWW-Authenticate": 'Bearer realm="hookline"'})


CallerDep = Annotated[Caller, Depends(_caller)]


async def _principal(caller: CallerDep) -> Principal:
    return caller.principal


PrincipalDep = Annotated[Principal, Depends(_principal)]
