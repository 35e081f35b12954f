"""Authentication: `Authorization: Bearer <key>`, or Basic with the key as password, as the wandb client sends it."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBasic, HTTPBasicCredentials, HTTPBearer

from dispatcher.api.caller_cache import KEY_EXPIRES_AT, TOLD_BEFORE, Caller, KeyExpired
from dispatcher.api.operation_index import operation_index
from dispatcher.api.problems import Problem
from dispatcher.api.resources import ApiResources, ResourcesDep
from dispatcher.api.threads import run_in
from shared.storage.accounts.api_keys import hash_key
from shared.storage.accounts.users import Principal

_bearer = HTTPBearer(auto_error=False, description="An API key.")


class _Basic(HTTPBasic):
    """Basic that never makes a browser ask for a password: the browser would send it with every page's requests."""

    def make_authenticate_headers(self) -> dict[str, str]:
        """The headers of a 401. They name Bearer only, at which browsers show no dialog."""
        return dict(_CHALLENGE)


_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="hookline"'}
_basic = _Basic(
    scheme_name="HTTPBasic", auto_error=False, description="An API key as the password; the user name is `api`."
)


async def _caller(
    request: Request,
    resources: ResourcesDep,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    basic: Annotated[HTTPBasicCredentials | None, Depends(_basic)],
) -> Caller:
    caller = await _known_caller(request, resources, bearer, basic)
    operation_index(request).check_query(request)
    return caller


async def authenticated(request: Request, resources: ApiResources) -> Caller:
    """What `CallerDep` gives, without dependencies. Raises as `caller_of`, and InvalidDefinition for a faulty query."""
    caller = await caller_of(request, resources)
    operation_index(request).check_query(request)
    return caller


async def caller_of(request: Request, resources: ApiResources) -> Caller:
    """The caller of a request, for code outside of handlers. Raises Problem or starlette's HTTPException, both 401."""
    return await _known_caller(request, resources, await _bearer(request), await _basic(request))


async def _known_caller(
    request: Request,
    resources: ApiResources,
    bearer: HTTPAuthorizationCredentials | None,
    basic: HTTPBasicCredentials | None,
) -> Caller:
    key = bearer.credentials if bearer is not None else basic.password if basic is not None else ""
    if not key:
        raise _unauthenticated("an API key is required: Authorization: Bearer <key>")
    digest = hash_key(key)
    try:
        caller = resources.callers.known(digest) or await run_in(
            resources.threads.callers, partial(resources.callers.look_up, digest)
        )
    except KeyExpired as exc:
        raise _unauthenticated(str(exc)) from None
    if caller is None:
        raise _unauthenticated("this API key is unknown or revoked")
    if caller.expires_at is not None and caller.expires_at - datetime.now(UTC) < TOLD_BEFORE:
        setattr(request.state, KEY_EXPIRES_AT, caller.expires_at)
    return caller


def _unauthenticated(detail: str) -> Problem:
    return Problem(401, "unauthenticated", detail, headers=_CHALLENGE)


CallerDep = Annotated[Caller, Depends(_caller)]


async def _principal(caller: CallerDep) -> Principal:
    return caller.principal


PrincipalDep = Annotated[Principal, Depends(_principal)]
