"""Bodies with gzip, unpacked in small pieces: nothing is lost between them, and neither size nor number grows."""

from __future__ import annotations

import gzip
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.api.bodies import MAX_GZIP_MEMBERS, SLICE_BYTES, Gunzip
from dispatcher.api.problems import Problem

LIMIT = 8 << 20


@given(
    sizes=st.lists(
        st.sampled_from([0, 1, 100, SLICE_BYTES - 1, SLICE_BYTES, SLICE_BYTES + 1, 3 * SLICE_BYTES]), max_size=3
    ),
    noise=st.booleans(),
    chunk=st.sampled_from([1000, 65536, 1 << 24]),
    seed=st.integers(0, 3),
)
def test_pieces_are_the_whole_and_none_is_large(sizes: list[int], noise: bool, chunk: int, seed: int) -> None:
    chooser = random.Random(seed)
    members = [chooser.randbytes(size) if noise else b"x" * size for size in sizes]
    packed = b"".join(map(gzip.compress, members))
    unpack = Gunzip(LIMIT)
    pieces = [piece for at in range(0, len(packed), chunk) for piece in unpack.pieces(packed[at : at + chunk])]
    unpack.end()
    assert b"".join(pieces) == b"".join(members)
    assert all(len(piece) <= SLICE_BYTES for piece in pieces)


def test_a_bomb_ends_one_byte_over_the_limit() -> None:
    packed = gzip.compress(b"x" * (64 << 20))
    assert sum(map(len, Gunzip(LIMIT).pieces(packed))) == LIMIT + 1


def test_members_are_few() -> None:
    member = gzip.compress(b"")
    assert list(Gunzip(LIMIT).pieces(member * MAX_GZIP_MEMBERS)) == [b""] * MAX_GZIP_MEMBERS
    with pytest.raises(Problem) as refused:
        list(Gunzip(LIMIT).pieces(member * (MAX_GZIP_MEMBERS + 1)))
    assert refused.value.status == 400
