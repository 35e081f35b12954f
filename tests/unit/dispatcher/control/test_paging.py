"""Cursors come back as they were given, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.control.paging import MAX_LIMIT, PageRequest, page_request
from shared.domain.errors import InvalidDefinition
from shared.domain.ids import MAX_ROW_NUMBER


@given(st.integers(0, MAX_ROW_NUMBER))
def test_a_cursor_leads_to_the_position_it_was_made_of(position: int) -> None:
    cursor = PageRequest(limit=1).page([position, position], str, int).next

    assert cursor is not None
    assert page_request(1, cursor).position == position


@given(st.text(max_size=30))
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        page_request(None, text)
    assert refusal.value.errors[0].loc == ("cursor",)


@given(st.integers(1, 5), st.integers(0, 20))
def test_pages_cover_all_rows_once(limit: int, count: int) -> None:
    rows, seen, request = list(range(1, count + 1)), [], PageRequest(limit)
    while True:
        found = [row for row in rows if row > request.after][: request.with_one_more]
        page = request.page(found, lambda row: row, lambda row: row)
        seen += page.items
        if page.next is None:
            break
        request = page_request(limit, page.next)
    assert seen == rows


@pytest.mark.parametrize("limit", [0, -1, MAX_LIMIT + 1])
def test_a_limit_has_bounds(limit: int) -> None:
    with pytest.raises(InvalidDefinition):
        page_request(limit, None)
