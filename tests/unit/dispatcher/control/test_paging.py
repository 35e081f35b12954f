"""Pages that end at a size: nothing is left out or given twice, and little more is read than answered."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.control.paging import MAX_PAGE_BYTES, Page, sorted_page_request
from shared.storage.definitions.definition_lists import Sort


class Table:
    """Rows of given sizes, numbered from 1, and how many bytes of them were read."""

    def __init__(self, sizes: list[int]) -> None:
        self.rows = [(number, "x" * size) for number, size in enumerate(sizes, 1)]
        self.read_bytes = 0

    def after(self, number: int) -> Iterator[tuple[int, str]]:
        """The rows after a number, as they are drawn."""
        for row in self.rows[number:]:
            self.read_bytes += len(row[1])
            yield row

    def page(self, limit: int, cursor: str | None = None) -> Page[tuple[int, str]]:
        """A page of rows."""
        request = sorted_page_request(limit, Sort.CREATED, cursor)
        (after,) = request.after or (0,)
        return request.read_page((((row[0],), row) for row in self.after(int(after))), lambda row: row)[1]


SIZES = st.lists(st.sampled_from([0, 100, 5000, 250_000, 1_000_000, 3_000_000]), max_size=40)


@given(SIZES, st.integers(1, 20))
def test_pages_end_at_a_size_and_go_on_exactly_there(sizes: list[int], limit: int) -> None:
    table = Table(sizes)
    rows, cursor = [], None
    while True:
        page = table.page(limit, cursor)
        assert len(page.items) <= limit
        assert len(page.items) == 1 or sum(len(text) for _, text in page.items) <= MAX_PAGE_BYTES
        rows += page.items
        if (cursor := page.next) is None:
            break
        assert page.items
    assert rows == table.rows


def test_one_row_more_is_read_than_answered() -> None:
    table = Table([250_000] * 600)
    assert len(table.page(500).items) == 8
    assert table.read_bytes == 9 * 250_000
