"""Relay's pages over any number of rows: nothing is lost, nothing comes twice, no page is empty before the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.graphql.listing_filters import exact_value, in_order, row_filter
from dispatcher.graphql.pages import page_of, page_size, position_after, scanned, whole
from shared.domain.errors import InvalidDefinition


def walked(rows: Sequence[int], keep: frozenset[int], first: int) -> list[list[int]]:
    """All pages of the rows to keep, by their cursors."""
    pages, cursor, more = [], None, True
    while more:
        _, number = position_after(cursor)
        page = page_of((((0, row), row) for row in rows if row > number and row in keep), first)
        pages.append([edge["node"] for edge in page["edges"]])
        cursor, more = page["page_info"]["end_cursor"], page["page_info"]["has_next_page"]
    return pages


@given(st.lists(st.integers(1, 10_000), unique=True).map(sorted), st.data(), st.integers(1, 20))
def test_pages_cover_everything_once(rows: list[int], data: st.DataObject, first: int) -> None:
    keep = frozenset(data.draw(st.lists(st.sampled_from(rows)))) if rows else frozenset[int]()
    pages = walked(rows, keep, first)
    assert [row for page in pages for row in page] == sorted(keep)
    assert all(pages[:-1])
    assert bool(keep) is bool(pages[-1])
    assert all(len(page) <= first for page in pages)


def test_a_whole_list_ends_at_a_number_and_at_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [((0, number), number) for number in range(1, 8)]

    def page(size: int) -> tuple[list[int], bool]:
        found = whole(items, lambda _: size)
        return [edge["node"] for edge in found["edges"]], found["page_info"]["has_next_page"]

    assert page(1) == ([1, 2, 3, 4, 5, 6, 7], False)
    assert whole([], lambda _: 1)["page_info"] == {"end_cursor": None, "has_next_page": False}
    monkeypatch.setattr("dispatcher.graphql.pages.MAX_WHOLE", 7)
    assert page(1) == ([1, 2, 3, 4, 5, 6, 7], False)
    monkeypatch.setattr("dispatcher.graphql.pages.MAX_WHOLE", 3)
    assert page(1) == ([1, 2, 3], True)
    assert position_after(whole(items, lambda _: 1)["page_info"]["end_cursor"]) == (0, 3)
    assert len(whole(items, lambda _: 1, must_end=lambda: True)["edges"]) == 1, "no page is empty"
    monkeypatch.setattr("dispatcher.graphql.pages.MAX_WHOLE_BYTES", 20)
    assert page(11) == ([1, 2], True)


@given(st.integers(0, 1700))
def test_scanning_draws_every_row(count: int) -> None:
    def fetch(after: int, limit: int) -> list[int]:
        return list(range(after + 1, min(after + limit, count) + 1))

    assert list(scanned(fetch, lambda row: row, 0)) == list(range(1, count + 1))


def test_page_sizes() -> None:
    assert [page_size(first) for first in (None, 1, 500, 10**9)] == [50, 1, 500, 500]
    for first in (0, -1):
        with pytest.raises(InvalidDefinition, match="first: must be at least 1"):
            page_size(first)


FIELDS: dict[str, Any] = {"name": lambda row: row["name"], "id": lambda row: row["id"]}
ROWS = [{"id": 1, "name": "b"}, {"id": 2, "name": "a"}, {"id": 3, "name": "b"}]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, [1, 2, 3]),
        ("{}", [1, 2, 3]),
        ('{"name": "b"}', [1, 3]),
        ('{"id": 2}', [2]),
        ('{"name": {"$regex": "^a"}}', [2]),
        ('{"$or": [{"id": 1}, {"name": "a"}]}', [1, 2]),
    ],
)
def test_filters(text: str | None, found: list[int]) -> None:
    assert [row["id"] for row in ROWS if row_filter(text, FIELDS, "filters")(row)] == found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "filters: must be a JSON object in a string"),
        ("[]", "filters: must be an object"),
        ('{"tag": 1}', "filters.tag: is not a field here; accepted: id, name"),
    ],
)
def test_filters_that_are_none(text: str, told: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        row_filter(text, FIELDS, "filters")
    assert told in str(caught.value)


def test_orders() -> None:
    assert [row["id"] for row in in_order(ROWS, None, FIELDS)] == [1, 2, 3]
    assert [row["id"] for row in in_order(ROWS, "name", FIELDS)] == [2, 1, 3]
    assert [row["id"] for row in in_order(ROWS, "-id", FIELDS)] == [3, 2, 1]
    with pytest.raises(InvalidDefinition, match="order: must be one of id, name"):
        in_order(ROWS, "size", FIELDS)


@pytest.mark.parametrize(
    ("text", "value"),
    [(None, None), ('{"name":"x"}', "x"), ('{"name":1}', None), ('{"name":"x","id":1}', None), ("[]", None)],
)
def test_exact_values(text: str | None, value: str | None) -> None:
    assert exact_value(text, "name") == value
