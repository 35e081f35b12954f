"""The methods and query parameters of each path, by the application's own OpenAPI document.

It goes by the document and not by the router, so that exactly what is described is accepted. Must not decide who may
call.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from fastapi import FastAPI, Request
from starlette.routing import compile_path

from shared.domain.errors import FieldError, InvalidDefinition


@dataclass(frozen=True, slots=True)
class _Path:
    pattern: re.Pattern[str]
    queries: dict[str, frozenset[str]]
    """The names of the query parameters of each method."""


class OperationIndex:
    """The paths of an application. They are read at the first use, since making the document takes a moment."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    @cached_property
    def _paths(self) -> tuple[_Path, ...]:
        return tuple(
            _Path(
                compile_path(path)[0],
                {
                    method.upper(): frozenset(p["name"] for p in operation.get("parameters", ()) if p["in"] == "query")
                    for method, operation in operations.items()
                },
            )
            for path, operations in self._app.openapi()["paths"].items()
        )

    def methods(self, path: str) -> frozenset[str]:
        """The methods of a path, HEAD and OPTIONS included; empty for a path that is not described."""
        found = frozenset().union(*(known.queries for known in self._paths if known.pattern.match(path)))
        if not found:
            return found
        return found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else frozenset())

    def check_query(self, request: Request) -> None:
        """Refuse query parameters that the operation does not have, since a misspelt criterion would select everything.

        Raises:
            InvalidDefinition: naming each, and what is accepted.
        """
        if not request.query_params:
            return
        path, method = request.scope["path"], request.method
        accepted = next((k.queries[method] for k in self._paths if method in k.queries and k.pattern.match(path)), None)
        unknown = [] if accepted is None else [name for name in request.query_params if name not in accepted]
        if unknown:
            known = ", ".join(sorted(accepted or ())) or "none"
            raise InvalidDefinition(*(FieldError((name,), f"is not known here; accepted: {known}") for name in unknown))


def operation_index(request: Request) -> OperationIndex:
    """The index of the application that serves a request."""
    found: OperationIndex = request.app.state.operation_index
    return found
