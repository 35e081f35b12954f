"""Pages of lists in Relay's form. A cursor holds the position after which the next page begins, and stays good.

A page is filled up before it is answered: the `wandb` client takes an empty one for the end of the list.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from dispatcher.control.paging import MAX_LIMIT
from shared.domain.errors import InvalidDefinition
from shared.domain.ids import MAX_ROW_NUMBER

DEFAULT_FIRST = 50
MAX_WHOLE = 10_000
MAX_WHOLE_BYTES = 16 << 20
Position = tuple[int, int]
"""An entity's number, or 0 in a list of one entity, and a row's number."""
Connection = dict[str, Any]
"""A page as it is answered: `page_info`, `edges` and, where it is known, `total_count`."""
START: Position = (0, 0)

_CURSOR = re.compile(r"after:(0|[1-9][0-9]{0,18}):(0|[1-9][0-9]{0,18})")
_Row = TypeVar("_Row")


def page_of(items: Iterable[tuple[Position, Any]], first: int | None) -> Connection:
    """The first `first` of the items; at most one more is drawn from them."""
    limit = page_size(first)
    drawn = list(islice(items, limit + 1))
    return _page(drawn[:limit], more=len(drawn) > limit)


def whole(
    items: Iterable[tuple[Position, _Row]],
    size_bytes: Callable[[_Row], int],
    *,
    must_end: Callable[[], bool] = lambda: False,
) -> Connection:
    """All of the items on one page, for the lists that the client looks through page by page and breaks off.

    Up to `MAX_WHOLE` of them, none after those whose sizes reach `MAX_WHOLE_BYTES`, and none when it must end.
    """
    drawn: list[tuple[Position, _Row]] = []
    total_bytes = 0
    for position, node in items:
        if len(drawn) >= MAX_WHOLE or total_bytes >= MAX_WHOLE_BYTES or (drawn and must_end()):
            return _page(drawn, more=True)
        drawn.append((position, node))
        total_bytes += size_bytes(node)
    return _page(drawn, more=False)


def _page(drawn: Sequence[tuple[Position, Any]], *, more: bool) -> Connection:
    edges = [{"node": node, "cursor": _cursor(position)} for position, node in drawn]
    return {
        "page_info": {"end_cursor": edges[-1]["cursor"] if edges else None, "has_next_page": more},
        "edges": edges,
    }


def connection(nodes: Sequence[Any]) -> Connection:
    """A page that has everything."""
    return {
        "page_info": {"end_cursor": None, "has_next_page": False},
        "edges": [{"node": node} for node in nodes],
    }


def page_size(first: int | None) -> int:
    """How many items a page may have; more than `MAX_LIMIT` are never on one page.

    Raises:
        InvalidDefinition: for less than one.
    """
    if first is not None and first < 1:
        raise InvalidDefinition.at(("first",), "must be at least 1")
    return min(DEFAULT_FIRST if first is None else first, MAX_LIMIT)


def position_after(cursor: str | None) -> Position:
    """Where the page after this cursor begins. Raises InvalidDefinition for text that no answer gave."""
    if not cursor:
        return START
    try:
        match = _CURSOR.fullmatch(base64.b64decode(cursor, validate=True).decode("ascii"))
    except (binascii.Error, ValueError):
        match = None
    if (
        match is None
        or max(position := (int(match[1]), int(match[2]))) > MAX_ROW_NUMBER
        or _cursor(position) != cursor  # decoding is generous about padding
    ):
        raise InvalidDefinition.at(("after",), "must be the endCursor of an earlier answer")
    return position


def scanned(fetch: Callable[[int, int], Sequence[_Row]], number: Callable[[_Row], int], after: int) -> Iterator[_Row]:
    """All rows after a number, fetched batch by batch as they are drawn."""
    while rows := fetch(after, MAX_LIMIT):
        yield from rows
        if len(rows) < MAX_LIMIT:
            return
        after = number(rows[-1])


def _cursor(position: Position) -> str:
    return base64.b64encode(f"after:{position[0]}:{position[1]}".encode()).decode()
