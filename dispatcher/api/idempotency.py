"""`Idempotency-Key`: a POST that is repeated with the same key gets the first answer and has no second effect.

A key belongs to a user for 24 hours. Its first request claims it in a transaction of its own; `Once.writing` marks the
claim effective in the transaction of the change, so that a change is not repeated even if its answer is lost. A refused
or failed request changed nothing and releases its key, and so does a request that only reads, such as a dry run.
Answers are encrypted at rest, since one of them shows an API key, and shown only to who still has the roles of then.
Must not be applied to events, nor to webhooks in, which their source and id tell apart already.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dispatcher.api import problems
from dispatcher.api.authentication import caller_of
from dispatcher.api.cloud_events import EVENTS_PATH, IN_PATH
from dispatcher.api.problems import Problem
from dispatcher.api.resources import ApiResources, ResourcesDep
from dispatcher.control.errors import Conflict
from shared.domain.errors import HooklineError, InvalidDefinition
from shared.observability.logs import get_logger
from shared.storage.accounts import idempotency_keys as store
from shared.storage.accounts.idempotency_keys import KeyClaim, StoredRequest
from shared.storage.accounts.users import Principal, Role, find_user_as_principal
from shared.storage.database.transactions import write_transaction
from shared.vault import Vault

HEADER = "Idempotency-Key"
PARAMETER = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "For 24 hours, a repeated request with the same key gets the same answer and does nothing.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "example": "deploy-2026-11-23",
}
REPLAYED = "Idempotent-Replayed"
KEPT = timedelta(hours=24)
"""How long a key belongs to its first request; the OpenAPI document promises it."""
ABANDONED = timedelta(seconds=60)
"""When a request is unanswered for so long, a repeat may take its key over: its process has probably ended. If it
does go on, `Once.writing` notices that it lost its claim, and undoes what it wrote."""
REMOVED_IN_PASSING = 100
"""The most expired keys that a request deletes, so that the table does not grow and no request pays for all of them."""
MAX_KEYS = 10_000
"""Keys of one user at the same time; about 5 MB of rows without answers."""
MAX_ANSWERS = 1000
MAX_ANSWER_BYTES = 1 << 20
MAX_ANSWERS_BYTES = 16 << 20
"""How many answers to one user are kept, how large each may be, and all together. A request whose answer is not kept is
still not carried out again."""
KEYS_RETRY_AFTER_SECONDS = "60"
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_KEPT_HEADERS = ("content-type", "etag")
_FORM = "must be given once, as 1 to 255 printable ASCII characters"

log = get_logger("hookline.api")


@dataclass(frozen=True, slots=True)
class Once:
    """The way in which a handler writes, so that a request with a key takes effect once."""

    engine: Engine
    claim: KeyClaim | None

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes, and that marks the key's request as done when it commits.

        Raises:
            Conflict: when another request took the key over; nothing is written then.
        """
        with write_transaction(self.engine) as connection:
            yield connection
            self._mark_effective(connection)

    def mark_effective(self) -> None:
        """Note that the key's request was carried out, for requests that change nothing in the database."""
        if self.claim is not None:
            with write_transaction(self.engine) as connection:
                self._mark_effective(connection)

    def _mark_effective(self, connection: Connection) -> None:
        if self.claim is not None and not store.mark_effective(connection, self.claim):
            raise Conflict("this request took so long that another one took over its Idempotency-Key")


async def _once(request: Request, resources: ResourcesDep) -> Once:
    return Once(resources.engine, getattr(request.state, "idempotency_claim", None))


OnceDep = Annotated[Once, Depends(_once)]


class Idempotency:
    """The ASGI layer that claims keys and answers repeats."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        request = Request(scope, receive) if _applies(scope) else None
        if request is None:
            await self._app(scope, receive, send)
            return
        try:
            begun = await _begin(request)
        except (HooklineError, SQLAlchemyError) as exc:
            await problems.answer(problems.problem_of(exc))(scope, receive, send)
            return
        if begun is None:  # the application says why
            await self._app(scope, receive, send)
        elif isinstance(begun, Response):
            await begun(scope, receive, send)
        else:
            await self._first(request, begun, send)

    async def _first(self, request: Request, begun: _Begun, send: Send) -> None:
        """Serve the first request with a key; its answer is kept before it is sent."""
        request.state.idempotency_claim = begun.claim
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        resources: ApiResources = request.app.state.resources
        try:
            await self._app(request.scope, _again(begun.body), collect)
        except Exception:
            await run_in_threadpool(_finish, resources, begun, [])
            raise
        await run_in_threadpool(_finish, resources, begun, messages)
        for message in messages:
            await send(message)


@dataclass(frozen=True, slots=True)
class _Begun:
    """A claim that holds, who made it, and the body that was read to make it."""

    claim: KeyClaim
    principal: Principal
    body: bytes


def takes_key(method: str, path: str) -> bool:
    """Whether a request is one that can take a key: any POST of REST but those of events and of webhooks in."""
    return method == "POST" and path.startswith("/v1/") and path != EVENTS_PATH and not path.startswith(IN_PATH)


def _applies(scope: Scope) -> bool:
    return scope["type"] == "http" and takes_key(scope["method"], scope["path"]) and HEADER in Headers(scope=scope)


async def _begin(request: Request) -> _Begun | Response | None:
    """Claim the request's key, or give the answer to a repeat; None for a caller without a valid key.

    Raises:
        InvalidDefinition: for a key that can't be used.
        Problem: 422 when the key was used for another request, 409 while its first one is underway, 429 when the user
            has too many keys.
    """
    resources: ApiResources = request.app.state.resources
    try:
        caller = await caller_of(request, resources)
    except (Problem, HTTPException):
        return None
    keys = request.headers.getlist(HEADER)
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise InvalidDefinition.at((HEADER,), _FORM)
    body = await request.body()
    claim = KeyClaim(caller.principal.user_id, keys[0], datetime.now(UTC))
    found = await run_in_threadpool(_claim, resources.engine, claim, _digest(request, body))
    return _Begun(claim, caller.principal, body) if found is None else _stored_answer(*found, resources.vault)


def _digest(request: Request, body: bytes) -> bytes:
    """SHA-256 of the method, the URL's path and query, and the body, each with its length in front."""
    digest = hashlib.sha256()
    for part in (request.method.encode(), request.scope["path"].encode(), request.scope["query_string"], body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _claim(engine: Engine, claim: KeyClaim, digest: bytes) -> tuple[StoredRequest, Principal | None] | None:
    """Claim the key.

    Returns:
        None when it is claimed; otherwise the request that it was used with before, and its user by now.

    Raises:
        InvalidDefinition: when that was another request.
        Problem: when the key changes hands right now, or its user has too many.
    """
    now = claim.created_at
    with write_transaction(engine) as connection:
        store.remove_requests_before(connection, now - KEPT, limit=REMOVED_IN_PASSING)
        if store.insert_claim(connection, claim, digest):
            _check_number(connection, claim.user_id)
            return None
        found = store.find_request(connection, claim.user_id, claim.key)
        if found is not None:
            age = now - found.claim.created_at
            if not (age > KEPT or (found.status_code is None and age > ABANDONED)):
                _check_same(found, digest)
                return found, find_user_as_principal(connection, claim.user_id)
            store.remove_request(connection, found.claim)
        if store.insert_claim(connection, claim, digest):
            return None
    raise _underway()  # another request released it, and yet another claimed it, between two statements


def _check_number(connection: Connection, user_id: int) -> None:
    if store.count_keys(connection, user_id, most=MAX_KEYS + 1) > MAX_KEYS:
        detail = f"a user may use {MAX_KEYS} values of {HEADER} in 24 hours: send this request without one, or later"
        raise Problem(429, "too-many-keys", detail, headers={"Retry-After": KEYS_RETRY_AFTER_SECONDS})


def _check_same(found: StoredRequest, digest: bytes) -> None:
    if found.request_digest != digest:
        detail = f"this {HEADER} was used for another request; a key belongs to one method, URL and body"
        raise InvalidDefinition.at((HEADER,), detail)


def _stored_answer(stored: StoredRequest, principal: Principal | None, vault: Vault) -> Response:
    """The stored answer. Raises Problem while there is none, Conflict where there will be none or not for this user."""
    if stored.body is not None and stored.status_code is not None:
        kept = orjson.loads(vault.decrypt(stored.body))
        if principal is None or not _may_see(principal, kept.get("authority")):
            raise Conflict(
                f"the request with this {HEADER} was carried out, but your roles have changed since: "
                "its answer is not shown again"
            )
        headers = {**kept["headers"], REPLAYED: "true"}
        return Response(kept["body"], stored.status_code, headers)
    if datetime.now(UTC) - stored.claim.created_at <= ABANDONED:
        raise _underway()
    raise Conflict(
        f"the request with this {HEADER} was carried out, but its answer was lost or is not kept any more: "
        "look at what it changed"
    )


def _authority(principal: Principal) -> dict[str, Any]:
    return {"admin": principal.is_admin, "roles": {str(number): role for number, role in principal.roles.items()}}


def _may_see(principal: Principal, authority: dict[str, Any] | None) -> bool:
    """Whether a user may do all that it might when the answer was made; not known of answers of earlier versions."""
    if authority is None or principal.is_admin:
        return principal.is_admin
    return not authority["admin"] and all(
        principal.roles.get(int(number)) in (role, Role.ADMIN) for number, role in authority["roles"].items()
    )


def _underway() -> Problem:
    detail = f"the first request with this {HEADER} is still running; retry in a moment"
    return Problem(409, "conflict", detail, headers={"Retry-After": problems.RETRY_AFTER_SECONDS})


def _finish(resources: ApiResources, begun: _Begun, messages: list[Message]) -> None:
    """Keep the answer of a request that changed something; release the key of any other."""
    claim = begun.claim
    envelope = _envelope(messages, begun.principal)
    try:
        with write_transaction(resources.engine) as connection:
            if envelope is not None:
                kept = resources.vault.encrypt(envelope)
                if store.complete(connection, claim, status_code=messages[0]["status"], body=kept):
                    store.drop_old_answers(
                        connection, claim.user_id, most_answers=MAX_ANSWERS, most_bytes=MAX_ANSWERS_BYTES
                    )
                    return
            store.release(connection, claim)
    except SQLAlchemyError as exc:
        # The claim ends by itself: an effective one after a day, any other can be taken over after a minute.
        log.warning("idempotency.not_kept", error=type(exc).__name__)


def _envelope(messages: list[Message], principal: Principal) -> str | None:
    """The part of an answer that is kept, as JSON; None for a refusal and for an answer that is too large."""
    if not messages or not 200 <= messages[0]["status"] < 300:
        return None
    body = b"".join(message.get("body", b"") for message in messages[1:])
    if len(body) > MAX_ANSWER_BYTES:
        return None
    headers = MutableHeaders(scope=messages[0])
    kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
    return orjson.dumps({"headers": kept, "body": body.decode(), "authority": _authority(principal)}).decode()


def _again(body: bytes) -> Receive:
    """A `receive` that gives a body that was read already."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive
