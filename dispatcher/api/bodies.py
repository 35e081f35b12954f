"""Reading request bodies within bounds, and describing them in OpenAPI."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any

import orjson
from fastapi import Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from dispatcher.api.authentication import CallerDep
from dispatcher.api.problems import Problem, too_large
from dispatcher.control.paging import DEFAULT_LIMIT, MAX_LIMIT, PageRequest, page_request
from dispatcher.wandb_runs.streams import MAX_STREAM_BYTES
from shared.domain.errors import FieldError
from shared.domain.events.limits import MAX_BATCH_BYTES
from shared.domain.json_text import read_json_in_steps

HEAD_ONLY = "head_only"
"""In the state of a HEAD request, which handlers get as a GET: no body is sent, so none need be read for it."""
GROWN = "body_grown"
"""In the state of a request: what is told how many bytes of its body there are by now. It may raise Problem or wait."""
CLIENT_LEFT = "client-left"
"""The kind of the problem that nobody reads: the client ended the connection."""
Grown = Callable[[int], Awaitable[None]]
SLICE_BYTES = 128 << 10
"""How much is unpacked before the event loop serves others: a fraction of a millisecond."""
MAX_GZIP_MEMBERS = 1000
"""More are refused: each costs its own set-up, and 20 bytes may be a whole member."""
MAX_BODY_BYTES = 1 << 20
MAX_MANIFEST_BYTES = 8 << 20
MAX_OBJECTS = 200_000
MAX_MEMBERS = 500_000
"""They bound a decoded body to some 50 MiB, and the time in which nothing else runs to some 50 ms. Ten thousand
definitions, or a thousand events, have a fraction of them."""
MAX_NAMED_MEMBERS = 100_000
"""In a body with definitions, as its colons bound them: to cut one object of so many into its members takes 50 ms, in
one step. A thousand definitions have a tenth of them."""
DECODED_INLINE_BYTES = 16 << 10
"""A larger body is decoded in a thread, piece by piece: meanwhile the event loop serves others."""
_LARGE = re.compile(r"/v1/events|/graphql|/v1/entities/[^/]+/(?:apply|automations/dry-run)")

RUN_STREAM = re.compile(r"/files/[^/]+/[^/]+/[^/]+/file_stream")
RUN_UPLOADS = "/files/uploads"
_INBOUND = re.compile(r"/v1/in/[^/]+")
MAX_UPLOAD_BYTES = 5 << 30
"""What is uploaded is dropped as it comes, and takes no memory."""


def limit_bytes_of(path: str) -> int:
    """How much a request to a path may bring: 8 MiB where batches, manifests and dry runs go, 1 MiB elsewhere.

    Streams and uploads of the `wandb` client's runs have limits of their own. GraphQL's is refused over 1 MiB where it
    is read, in the form in which its clients take refusals. So are webhooks in, whose source keeps that it was so.
    """
    if path == RUN_UPLOADS or _INBOUND.fullmatch(path):
        return MAX_UPLOAD_BYTES
    if RUN_STREAM.fullmatch(path):
        return MAX_STREAM_BYTES
    return max(MAX_BATCH_BYTES, MAX_MANIFEST_BYTES) if _LARGE.fullmatch(path) else MAX_BODY_BYTES


async def read_body(request: Request, limit_bytes: int, *, what: str = "the body") -> bytes:
    """The body, of which never more than the limit is in memory, also where it was sent with gzip.

    Raises Problem: 413, 400 if the client has left or it is no gzip, or 415 for another coding.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit_bytes:
        raise too_large(what, limit_bytes)
    unpack = _unpacker(request, limit_bytes)
    body = bytearray()
    grown: Grown | None = getattr(request.state, GROWN, None)
    try:
        async for chunk in request.stream():
            for piece in (chunk,) if unpack is None else unpack.pieces(chunk):
                body += piece
                if len(body) > limit_bytes:
                    raise too_large(what, limit_bytes)
                if unpack is not None:
                    if grown is not None:
                        await grown(len(body))
                    await asyncio.sleep(0)
        if unpack is not None:
            unpack.end()
    except ClientDisconnect:  # it gave up, perhaps because a server was away: no fault for the log
        raise Problem(400, CLIENT_LEFT, f"the connection ended before {what} was read") from None
    return bytes(body)


def _unpacker(request: Request, limit_bytes: int) -> Gunzip | None:
    """What unpacks the body; None where it comes as it is. Raises Problem: 415 (RFC 9110, section 15.5.16)."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding in ("", "identity"):
        return None
    if coding in ("gzip", "x-gzip"):
        return Gunzip(limit_bytes)
    message = "the body must be sent as it is, or with Content-Encoding: gzip"
    raise Problem(415, "unsupported-content-coding", message, headers={"Accept-Encoding": "gzip"})


class Gunzip:
    """Unpacks gzip (RFC 1952) piece by piece: never much more than the limit, however much a piece would become."""

    def __init__(self, limit_bytes: int) -> None:
        self._left = limit_bytes + 1
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._members = 0

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        """What a chunk becomes, in pieces of `SLICE_BYTES`, up to a byte over the limit in all. Raises Problem: 400."""
        while packed and self._left > 0:
            if self._member.eof or not self._members:  # one member after another is one body
                self._begin_member()
            try:
                piece = self._member.decompress(packed, min(self._left, SLICE_BYTES))
            except zlib.error:
                raise _no_gzip() from None
            self._left -= len(piece)
            packed = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            yield piece

    def _begin_member(self) -> None:
        self._members += 1
        if self._members > MAX_GZIP_MEMBERS:
            error = FieldError((), f"must be gzip of at most {MAX_GZIP_MEMBERS} members; one is enough")
            raise Problem(400, "not-gzip", "the body has too many gzip members", [error])
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def end(self) -> None:
        """The body ends here. Raises Problem: 400, where something is missing."""
        if self._members and not self._member.eof:
            raise _no_gzip()


def _no_gzip() -> Problem:
    error = FieldError((), "must be gzip, as its Content-Encoding says, whole and undamaged")
    return Problem(400, "not-gzip", "the body is not what its Content-Encoding says, gzip", [error])


def media_type(request: Request) -> str:
    """The media type of the body, without parameters; blank when none is given."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def decode_json(body: bytes) -> Any:
    """The body's JSON. Raises Problem: 400, or 413 for one that would take many times its length in memory."""
    check_few_values(body)
    try:
        return read_json_in_steps(body)
    except orjson.JSONDecodeError as exc:
        where = f"line {exc.lineno}, column {exc.colno}"
        error = FieldError((), f"is not JSON: {exc.msg} at {where}")
    raise Problem(400, "not-json", f"the body is not JSON ({where})", [error])


def check_few_values(body: bytes) -> None:
    """Refuse JSON that would take many times its length in memory, before it is read. Raises Problem: 413."""
    if len(body) > MAX_OBJECTS and body.count(b"{") + body.count(b"[") > MAX_OBJECTS:
        raise Problem(413, "too-large", f"the body must have at most {MAX_OBJECTS} objects and arrays")
    if len(body) > MAX_MEMBERS and body.count(b",") > MAX_MEMBERS:
        raise Problem(413, "too-large", f"the body must have at most {MAX_MEMBERS} commas")


async def _json(request: Request, limit_bytes: int) -> Any:
    kind = media_type(request)
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, "unsupported-media-type", "the body must be application/json")
    body = await read_body(request, limit_bytes)
    if body and not kind and request.headers.get("authorization", "").lower().startswith("basic "):
        # A page of another site can have a browser send these, with the key that the browser remembers.
        raise Problem(415, "unsupported-media-type", "with a Basic key, Content-Type must say application/json")
    if not body:
        return {}
    if len(body) <= DECODED_INLINE_BYTES:
        return decode_json(body)
    if body.count(b":") > MAX_NAMED_MEMBERS:
        raise Problem(413, "too-large", f"the body must have at most {MAX_NAMED_MEMBERS} colons")
    return await run_in_threadpool(decode_json, body)


# Both depend on the caller, so that no body is read without a valid key.
async def _definition(request: Request, _caller: CallerDep) -> Any:
    return await _json(request, MAX_BODY_BYTES)


async def _manifest(request: Request, _caller: CallerDep) -> Any:
    return await _json(request, MAX_MANIFEST_BYTES)


JsonBody = Annotated[Any, Depends(_definition)]
"""A body's JSON; an absent body is read as an empty object."""
ManifestJson = Annotated[Any, Depends(_manifest)]


async def _page(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(description="The `next` of the previous page.")] = None,
) -> PageRequest:
    return page_request(limit, cursor)


Paging = Annotated[PageRequest, Depends(_page)]


async def _two_way_page(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(description="The `next` or `previous` of another page.")] = None,
) -> PageRequest:
    return page_request(limit, cursor, two_way=True)


TwoWayPaging = Annotated[PageRequest, Depends(_two_way_page)]


def accepts(body: type[BaseModel] | dict[str, Any], *, partly: bool = False) -> dict[str, Any]:
    """The OpenAPI description of a route's body; with `partly` no member is required, as in a patch."""
    schema = _inline_references(body.model_json_schema()) if isinstance(body, type) else dict(body)
    if partly:
        schema.pop("required", None)
    required = bool(schema.get("required"))  # no body at all stands for an empty object
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def _inline_references(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without references, which would point nowhere inside the OpenAPI document."""
    definitions = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            node = definitions[node["$ref"].rpartition("/")[2]] | {k: v for k, v in node.items() if k != "$ref"}
        return {key: resolved(value) for key, value in node.items()}

    result: dict[str, Any] = resolved(schema)
    return result
