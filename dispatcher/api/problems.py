"""Problem documents (RFC 9457) for every refusal, be it of our rules, of FastAPI, of the database, or a bug.

Must not repeat any part of the request, nor the text of a bug: both may hold secrets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from dispatcher.api.operation_index import operation_index
from dispatcher.control.errors import Conflict, Forbidden, NotFound, QuotaExceeded
from dispatcher.publishing.publisher import StreamFull, StreamUnavailable
from shared.domain.errors import EndpointUnusable, FieldError, HooklineError, InvalidDefinition
from shared.observability.logs import get_logger
from shared.vault import SecretUnreadable

MAX_ERRORS = 1000
MAX_SAID = 500
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = "1"
FULL_RETRY_AFTER_SECONDS = "5"
_PHRASES = {
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    416: "Requested Range Not Satisfiable",
    422: "Unprocessable Entity",
}
"""Titles that `http` changed in Python 3.13: clients see the same ones on each Python."""
_PLACES = frozenset({"body", "query", "path", "header", "cookie"})

log = get_logger("hookline.api")

PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "type": "object",
    "required": ["type", "title", "status", "detail", "errors"],
    "properties": {
        "type": {"type": "string", "description": "A URN that names the kind of problem."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["loc", "msg"],
                "properties": {
                    "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
                    "msg": {"type": "string", "description": "What is accepted there."},
                },
            },
        },
    },
}
_CONTENT = {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "A problem with the request; nothing was changed.", "content": _CONTENT},
    # Named beside 4XX, because FastAPI would otherwise describe an answer of its own.
    "422": {"description": "Invalid fields; nothing was changed.", "content": _CONTENT},
    "5XX": {"description": "A problem in Hookline.", "content": _CONTENT},
}


class Problem(HooklineError):
    """A refusal that belongs to HTTP alone."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        errors: Iterable[FieldError] = (),
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


def too_large(what: str, limit_bytes: int) -> Problem:
    """The refusal of a body over its limit."""
    return Problem(413, "too-large", f"{what} must be at most {limit_bytes} bytes")


def first_errors(errors: Sequence[FieldError]) -> list[FieldError]:
    """The first errors, and how many more there are: a body can have as many faults as it has bytes."""
    more = len(errors) - MAX_ERRORS
    return list(errors) if more <= 0 else [*errors[:MAX_ERRORS], FieldError((), f"and {more} more faults")]


def answer(problem: Problem) -> Response:
    """The problem as an HTTP answer."""
    body = {
        "type": f"urn:hookline:problem:{problem.kind}",
        "title": _phrase(problem.status),
        "status": problem.status,
        "detail": str(problem),
        "errors": [{"loc": error.loc, "msg": error.msg} for error in first_errors(problem.errors)],
    }
    return Response(orjson.dumps(body), problem.status, problem.headers, MEDIA_TYPE)


REFUSALS = (
    Problem,
    InvalidDefinition,
    NotFound,
    Forbidden,
    Conflict,
    StreamFull,
    StreamUnavailable,
    SecretUnreadable,
    EndpointUnusable,
    RequestValidationError,
    HTTPException,
    OperationalError,
    IntegrityError,
    InterfaceError,
    PoolTimeoutError,
    Exception,  # whatever else it is, the server logs it
)
"""What `problem_of` turns into problems: all that a handler may raise."""


def install(app: FastAPI) -> None:
    """Answer every refusal of this application with a problem document."""
    for kind in REFUSALS:
        app.add_exception_handler(kind, _handle)


async def _handle(request: Request, exc: Exception) -> Response:
    problem = problem_of(exc)
    if problem.status == 405 and (allowed := operation_index(request).methods(request.scope["path"])):
        problem.headers["Allow"] = ", ".join(sorted(allowed))  # the router knows only the first route that fits
    if request_id := getattr(request.state, "request_id", None):
        problem.headers.setdefault("X-Request-ID", request_id)  # a bug is answered outside of the layer that sets it
    return answer(problem)


def problem_of(exc: Exception) -> Problem:
    """The problem that an exception is answered with."""
    match exc:
        case Problem():
            return exc
        case InvalidDefinition():
            return Problem(422, "invalid", _summary(exc.errors), exc.errors)
        case NotFound():
            return Problem(404, "not-found", str(exc))
        case Forbidden():
            return Problem(403, "forbidden", str(exc), exc.errors)
        case QuotaExceeded():
            return Problem(409, "quota-exceeded", f"{exc}: {_summary(exc.errors)}", exc.errors)
        case Conflict():
            return Problem(409, "conflict", str(exc), exc.errors)
        case RequestValidationError():
            errors = [_field_error(error) for error in exc.errors()]
            return Problem(422, "invalid", _summary(errors), errors)
        case HTTPException():
            return _of_http(exc)
        case StreamFull():
            log.warning("api.streams_full", reason=str(exc))
            return Problem(503, "streams-full", str(exc), headers={"Retry-After": FULL_RETRY_AFTER_SECONDS})
        case StreamUnavailable():
            log.error("api.streams_unavailable", error=_said(exc.__cause__ or exc))
            return _unavailable(str(exc))
        case SecretUnreadable():
            log.error("api.secret_unreadable", error=str(exc))
            return Problem(500, "secret-unreadable", str(exc))
        case EndpointUnusable():
            return Problem(409, "endpoint-unusable", f"no request can be made to this webhook: {exc}")
        case IntegrityError():
            return Problem(
                409,
                "conflict",
                "something that this request refers to was changed at the same moment: reload it and retry",
            )
        case PoolTimeoutError() | DBAPIError():
            log.error("api.database_unavailable", error=_said(exc))
            return _unavailable("the database can't be reached or is too busy: nothing was changed, try again")
        case _:
            return Problem(500, "internal", "Hookline failed to handle this request; its log says why")


def _said(exc: BaseException) -> str:
    """What a server said, in a line for the log: SQLAlchemy's own text has the whole statement."""
    cause = getattr(exc, "orig", None) or exc
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:MAX_SAID]}"


def _unavailable(detail: str) -> Problem:
    return Problem(503, "unavailable", detail, headers={"Retry-After": RETRY_AFTER_SECONDS})


def _of_http(exc: HTTPException) -> Problem:
    kind = _phrase(exc.status_code).lower().replace(" ", "-")
    return Problem(exc.status_code, kind, str(exc.detail), headers=exc.headers)


def _phrase(status: int) -> str:
    return _PHRASES.get(status) or HTTPStatus(status).phrase


def _field_error(error: Mapping[str, Any]) -> FieldError:
    """FastAPI's error without the part of the request that it begins with."""
    loc = tuple(error["loc"])
    return FieldError(loc[1:] if loc and loc[0] in _PLACES else loc, str(error["msg"]))


def _summary(errors: Iterable[FieldError]) -> str:
    errors = list(errors)
    more = len(errors) - 1
    return f"{errors[0]}" + (f" (and {more} more)" if more > 0 else "")
