"""The ASGI layer in which a request takes its place among those of its kind and user, before its body is read."""

from __future__ import annotations

import re
import zlib
from contextlib import AsyncExitStack
from dataclasses import dataclass

from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dispatcher.api import problems
from dispatcher.api.authentication import caller_of
from dispatcher.api.bodies import GROWN, RUN_STREAM
from dispatcher.api.cloud_events import IN_PATH
from dispatcher.api.fair_threads import Places, Turns
from dispatcher.api.problems import Problem
from dispatcher.api.refusals import CONSOLE, refuse
from dispatcher.api.resources import ApiResources
from dispatcher.api.threads import Threads

EVENTS = "/v1/events"
LARGE_BYTES = 256 << 10
"""Batches of events up to this size need no place: publishing is the most frequent request."""
STRANGERS = 1 << 40
"""Who sends to URLs that are no source's. Sources are behind it by their numbers, and no user has such an id."""
_DRY_RUN = re.compile(r"/v1/entities/[^/]+/(?:automations/(?:dry-run|[^/]+/series)|events(?:/one)?)")
_MANIFEST = re.compile(r"/v1/entities/[^/]+/(?:apply|export)")
_EXPORT = re.compile(r"/v1/entities/[^/]+/deliveries/export")
_TRIAL = re.compile(r"/v1/entities/[^/]+/(?:webhooks/test|(?:webhooks|slack|automations)/[^/]+/test)")


class FairUse:
    """Refuses what is too much at once, of all users or of one (429), and has each user's requests wait for their turn.

    GraphQL's take their places where they can be refused in its form.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and scope["path"].startswith(CONSOLE):
            await self._serve_page(scope, receive, send)
            return
        if scope["type"] != "http" or not _takes_places(scope["path"]) or _is_small_batch(scope):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        resources: ApiResources = request.app.state.resources
        if scope["path"].startswith(IN_PATH):
            await self._serve_sender(resources, scope, receive, send)
            return
        async with AsyncExitStack() as held:
            try:
                user_id = (await caller_of(request, resources)).principal.user_id
            except (Problem, HTTPException):  # the application says why, and reads no body
                user_id = None
            except SQLAlchemyError as exc:
                await problems.answer(problems.problem_of(exc))(scope, receive, send)
                return
            threads = resources.threads
            if user_id is not None and not _publishes(scope):
                places, turns = _of_kind(scope["path"], threads)
                try:
                    held.enter_context(places.hold(user_id))
                except Problem as refusal:
                    await threads.refusals.wait(user_id)
                    await problems.answer(refusal)(scope, receive, send)
                    return
                if turns is not None:
                    await held.enter_async_context(turns.hold(user_id))
            if user_id is not None:
                body = _Body(threads, user_id, held, is_batch=_publishes(scope))
                receive = body.counted(receive)
                scope.setdefault("state", {})[GROWN] = body.grown
            await self._app(scope, receive, send)

    async def _serve_sender(self, resources: ApiResources, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a webhook in. Each source has its own places; strangers, who can make up URLs, have one source's."""
        threads = resources.threads
        try:
            known = await resources.sources.addressed(scope["path"].removeprefix(IN_PATH), threads.callers)
        except SQLAlchemyError as exc:
            await problems.answer(problems.problem_of(exc))(scope, receive, send)
            return
        address = STRANGERS + (0 if known is None else known.number)
        async with AsyncExitStack() as held:
            try:
                held.enter_context(threads.senders.hold(address))
            except Problem as refusal:
                await threads.refusals.wait(address)
                await problems.answer(refusal)(scope, receive, send)
                return
            await self._app(scope, receive, send)

    async def _serve_page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a page: each visitor's take turns, and all pages together leave threads to REST."""
        request = Request(scope)
        threads: Threads = request.app.state.resources.threads
        visitor = zlib.crc32(request.headers.get("cookie", "").encode("latin-1"))
        async with AsyncExitStack() as held:
            try:
                held.enter_context(threads.console.hold(visitor))
            except Problem as refusal:
                await threads.refusals.wait(-visitor)
                await refuse(self._app, refusal, scope, receive, send)
                return
            await held.enter_async_context(threads.console_turns_of_a_visitor.hold(visitor))
            await held.enter_async_context(threads.console_turns.hold(0))
            await self._app(scope, receive, send)


def _takes_places(path: str) -> bool:
    return path.startswith("/v1/") or RUN_STREAM.fullmatch(path) is not None


def _publishes(scope: Scope) -> bool:
    return scope["method"] == "POST" and (scope["path"] == EVENTS or RUN_STREAM.fullmatch(scope["path"]) is not None)


def _is_small_batch(scope: Scope) -> bool:
    if not _publishes(scope):
        return False
    headers = Headers(scope=scope)
    if "content-encoding" in headers:  # how large it is shows when it is unpacked
        return False
    declared = headers.get("content-length", "")
    return declared.isdecimal() and int(declared[:20]) <= LARGE_BYTES


@dataclass(slots=True)
class _Body:
    """A request's body on its way: once it proves to be large, the request takes a place, if need be, and its turn."""

    threads: Threads
    user_id: int
    held: AsyncExitStack
    is_batch: bool
    seen_bytes: int = 0
    is_large: bool = False

    def counted(self, receive: Receive) -> Receive:
        """A `receive` that waits for the turn, or raises Problem, with the message that makes the body large."""

        async def received() -> Message:
            message = await receive()
            self.seen_bytes += len(message.get("body", b""))
            await self.grown(self.seen_bytes)
            return message

        return received

    async def grown(self, by_now_bytes: int) -> None:
        """There are so many bytes of the body by now, as it came or unpacked. Raises Problem, or waits for the turn."""
        if self.is_large or by_now_bytes <= LARGE_BYTES:
            return
        self.is_large = True
        if self.is_batch:
            try:
                self.held.enter_context(self.threads.large_batches.hold(self.user_id))
            except Problem:
                await self.threads.refusals.wait(self.user_id)
                raise
        turns = self.threads.large_batch_turns if self.is_batch else self.threads.large_body_turns
        await self.held.enter_async_context(turns.hold(self.user_id))


def _of_kind(path: str, threads: Threads) -> tuple[Places, Turns | None]:
    """The places of requests to a path, and the turns that they wait for; with threads of their own they need none."""
    if _DRY_RUN.fullmatch(path):
        return threads.dry_runs.places, None
    if _MANIFEST.fullmatch(path):
        return threads.manifests.places, None
    if _EXPORT.fullmatch(path):
        return threads.exports.places, None
    if _TRIAL.fullmatch(path):
        return threads.trials, None
    return threads.ordinary, threads.ordinary_turns
