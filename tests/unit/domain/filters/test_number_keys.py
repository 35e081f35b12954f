"""Keys of numbers: equal as the numbers are, with hashes that nobody can foresee, so that no set of them is slow."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.filters.clues import equality_key
from shared.domain.filters.filters import parse_filter
from shared.domain.filters.terms import number_key

MODULUS = sys.hash_info.modulus
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(allow_nan=False),
    st.integers(-4000, 4000).map(lambda times: times * MODULUS),
    st.integers(58, 70).map(lambda power: float(2**power)),
)


@given(NUMBERS, NUMBERS)
def test_keys_are_equal_as_numbers_are(one: float, other: float) -> None:
    assert (number_key(one) == number_key(other)) is (one == other)
    if isinstance(one, float) and one.is_integer():
        assert number_key(one) == number_key(int(one))
    assert number_key(one) != repr(one)


def test_numbers_that_share_pythons_hash_have_hashes_of_their_own() -> None:
    alike = [times * MODULUS + 5 for times in range(10_000)]
    assert len({hash(number) for number in alike}) == 1
    assert len({hash(number_key(number)) for number in alike}) > 9_990
    assert len({hash(equality_key(number)) for number in alike}) > 9_990


def test_large_numbers_are_found_in_lists_whatever_their_type() -> None:
    one_of = parse_filter({"metadata.n": {"$in": [2**70, 1e30, 3, "0x40"]}}, lambda _field: None)

    def itself(_path: str) -> Callable[[object], object]:
        return lambda subject: subject

    holds = one_of.compile(itself)
    number: object
    for number in (2**70, float(2**70), int(1e30), 1e30, 3, 3.0, [7, 2**70]):
        assert holds(number), number
    for number in (2**70 + 1, 10**30, math.nan, 64, math.inf, -math.inf, True, hex(2**70)):
        assert not holds(number), number
