"""Pages of lists: an opaque cursor holds the position after which the next page begins."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from dispatcher.control.bodies import View
from shared.domain.errors import InvalidDefinition
from shared.domain.ids import MAX_ROW_NUMBER
from shared.storage.definitions.definition_lists import Sort, SortKey

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
MAX_PAGE_BYTES = 2 << 20
"""A page of rows that may be large ends at about this size; several times as much is in memory meanwhile."""

_Row = TypeVar("_Row")
_Item = TypeVar("_Item")


class Page(View, Generic[_Item]):
    """One page of a list; `next` is the cursor of the next one, null on the last."""

    items: list[_Item]
    next: str | None


class TwoWayPage(Page[_Item], Generic[_Item]):
    """One page of a list, newest first, that can be turned both ways."""

    previous: str | None
    """The cursor of the page with newer items; null where none are known."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The page that a client asks for: the most rows, and the position after which it begins."""

    limit: int = DEFAULT_LIMIT
    position: int | None = None
    newer: bool = False
    """Whether it is the page with newer items, before the position; only of lists that can be turned both ways."""

    @property
    def after(self) -> int:
        """The position in a list whose rows are numbered upwards."""
        return self.position or 0

    @property
    def with_one_more(self) -> int:
        """How many rows to ask for, so that it shows whether there is a next page."""
        return self.limit + 1

    def page(self, rows: Sequence[_Row], view: Callable[[_Row], _Item], position: Callable[[_Row], int]) -> Page[_Item]:
        """The page from up to `with_one_more` rows."""
        shown = rows[: self.limit]
        more = len(rows) > self.limit
        return Page(items=[view(row) for row in shown], next=cursor_after(position(shown[-1])) if more else None)

    def two_way(
        self, rows: Sequence[_Row], view: Callable[[_Row], _Item], position: Callable[[_Row], int]
    ) -> TwoWayPage[_Item]:
        """The page from up to `with_one_more` rows, newest first, of a list that was searched to its end."""
        more = len(rows) > self.limit
        shown = rows[-self.limit :] if self.newer else rows[: self.limit]
        first, last = (position(shown[0]), position(shown[-1])) if shown else (self.position or 0, self.position or 0)
        has_newer = more if self.newer else self.position is not None
        has_older = self.newer or more
        return TwoWayPage(
            items=[view(row) for row in shown],
            next=cursor_after(last) if has_older else None,
            previous=cursor_before(first) if has_newer else None,
        )


@dataclass(frozen=True, slots=True)
class SortedPageRequest:
    """The page of a list that has several orders: the most rows, the order, and where the page before ended in it."""

    limit: int
    sort: Sort
    after: SortKey | None

    @property
    def with_one_more(self) -> int:
        """How many rows to ask for, so that it shows whether there is a next page."""
        return self.limit + 1

    def read_page(
        self, rows: Iterable[tuple[SortKey, _Row]], view: Callable[[_Row], _Item]
    ) -> tuple[list[_Row], Page[_Item]]:
        """The page from rows that may be large and are read as they are drawn, and those of the rows that it shows.

        It ends at `MAX_PAGE_BYTES` too, but not before its first row.
        """
        items: list[_Item] = []
        shown: list[_Row] = []
        total_bytes, end = 0, self.after
        for key, row in rows:
            item = view(row)
            total_bytes += size_bytes(item)
            if items and (len(items) == self.limit or total_bytes > MAX_PAGE_BYTES):
                return shown, Page(items=items, next=None if end is None else _sorted_cursor(self.sort, end))
            items.append(item)
            shown.append(row)
            end = key
        return shown, Page(items=items, next=None)


def sorted_page_request(limit: int, sort: Sort, cursor: str | None) -> SortedPageRequest:
    """A page request from the query of a client. Raises InvalidDefinition for a cursor that no answer gave."""
    if cursor is None:
        return SortedPageRequest(limit, sort, None)
    if sort is Sort.CREATED:
        return SortedPageRequest(limit, sort, (page_request(limit, cursor).after,))
    try:
        given, *key = json.loads(decode_cursor(cursor))
    except (ValueError, TypeError):
        given, key = None, []
    expected = {Sort.NAME: [str], Sort.CHANGED: [int], Sort.LAST_FIRED: [int, int]}[sort]
    fits = [type(value) for value in key] == expected and all(
        value <= MAX_ROW_NUMBER for value in key if isinstance(value, int)
    )
    if given != sort or not fits or _sorted_cursor(sort, tuple(key)) != cursor:
        raise InvalidDefinition.at(("cursor",), "must be the `next` of an earlier answer with the same `sort`")
    return SortedPageRequest(limit, sort, tuple(key))


def _sorted_cursor(sort: Sort, key: SortKey) -> str:
    return cursor_after(int(key[0])) if sort is Sort.CREATED else encode_cursor(json.dumps([sort, *key]))


def size_bytes(item: object) -> int:
    """About how long a value is as JSON."""
    return len(json.dumps(item, ensure_ascii=False, default=str))


def page_request(limit: int | None, cursor: str | None, *, two_way: bool = False) -> PageRequest:
    """A page request from the query of a client.

    Raises:
        InvalidDefinition: for a limit out of range, or a cursor that no answer gave.
    """
    limit = DEFAULT_LIMIT if limit is None else limit
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidDefinition.at(("limit",), f"must be between 1 and {MAX_LIMIT}")
    if cursor is None:
        return PageRequest(limit)
    if (position := _position(cursor, cursor_after)) is not None:
        return PageRequest(limit, position)
    if two_way and (position := _position(cursor, cursor_before)) is not None:
        return PageRequest(limit, position, newer=True)
    raise InvalidDefinition.at(("cursor",), f"must be the `next`{' or `previous`' * two_way} of an earlier answer")


def cursor_after(position: int) -> str:
    """The cursor of the page that begins after a position."""
    return encode_cursor(f"after {position}")


def cursor_before(position: int) -> str:
    """The cursor of the page that ends before a position."""
    return encode_cursor(f"before {position}")


def encode_cursor(text: str) -> str:
    """The text as a cursor that stands in a URL as it is."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """The text in a cursor; blank for what no `encode_cursor` made of ASCII."""
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return ""


def _position(cursor: str, encode: Callable[[int], str]) -> int | None:
    number = decode_cursor(cursor).rpartition(" ")[2]
    if not (number.isdecimal() and len(number) < 20 and int(number) <= MAX_ROW_NUMBER):
        return None
    return int(number) if encode(int(number)) == cursor else None
