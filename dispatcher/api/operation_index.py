"""The methods and query parameters of each path, by the application's own OpenAPI document.

It goes by the document and not by the router, so that exactly what is described is accepted. Must not decide who may
call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fastapi import FastAPI, Request
from starlette.datastructures import QueryParams
from starlette.routing import compile_path

from shared.domain.errors import FieldError, InvalidDefinition


@dataclass(frozen=True, slots=True)
class _Path:
    pattern: re.Pattern[str]
    queries: dict[str, dict[str, bool]]
    """The names of the query parameters of each method, and whether each may be given several times."""


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
                    method.upper(): {
                        parameter["name"]: _takes_several(parameter["schema"])
                        for parameter in operation.get("parameters", ())
                        if parameter["in"] == "query"
                    }
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
        """Refuse query parameters that the operation does not have, or that have several values where it takes one.

        A misspelt criterion would select everything, and of several values only the last would count.

        Raises:
            InvalidDefinition: naming each, and what is accepted.
        """
        if not request.query_params:
            return
        path, method = request.scope["path"], request.method
        accepted = next((k.queries[method] for k in self._paths if method in k.queries and k.pattern.match(path)), None)
        if accepted is not None and (faults := tuple(_faults(request.query_params, accepted))):
            raise InvalidDefinition(*faults)


def _faults(given: QueryParams, accepted: Mapping[str, bool]) -> Iterator[FieldError]:
    for name in given:
        if name not in accepted:
            yield FieldError((name,), f"is not known here; accepted: {', '.join(sorted(accepted)) or 'none'}")
        elif not accepted[name] and (count := len(given.getlist(name))) > 1:
            yield FieldError((name,), f"must be given once; it is here {count} times")


def _takes_several(schema: Mapping[str, Any]) -> bool:
    return any(option.get("type") == "array" for option in (schema, *schema.get("anyOf", ())))


def operation_index(request: Request) -> OperationIndex:
    """The index of the application that serves a request."""
    found: OperationIndex = request.app.state.operation_index
    return found


def checked_query(request: Request) -> None:
    """Refuse unknown query parameters where no key is asked for, as `authentication` does elsewhere.

    Raises:
        InvalidDefinition: as `OperationIndex.check_query` does.
    """
    operation_index(request).check_query(request)
