"""Lists whose filters stand in the URL, so that a link shows the same to everybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request

from dispatcher.console.rendering import query


@dataclass(frozen=True, slots=True)
class ListUrl:
    """The address of a list with its filters."""

    path: str
    filters: Mapping[str, str]
    cursor: str

    @property
    def first(self) -> str:
        """The first page with these filters."""
        return f"{self.path}{query(self.filters)}"

    def next(self, cursor: str) -> str:
        """The page of a cursor with these filters."""
        return f"{self.path}{query({**self.filters, 'cursor': cursor})}"

    def having(self, **changed: str) -> str:
        """The first page with some filters changed; blank takes one away."""
        return f"{self.path}{query({**self.filters, **changed})}"

    @property
    def given(self) -> dict[str, str]:
        """The filters that are set."""
        return {name: value for name, value in self.filters.items() if value}

    @property
    def is_filtered(self) -> bool:
        """Whether any filter is set."""
        return any(self.filters.values())


def list_url(request: Request, names: tuple[str, ...]) -> ListUrl:
    """The address that was asked for, with the filters of these names."""
    given = {name: request.query_params.get(name, "").strip() for name in names}
    return ListUrl(request.url.path, given, request.query_params.get("cursor", ""))
