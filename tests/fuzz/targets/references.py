"""Ids, cursors, entity tags, durations, rates: only what Hookline writes is read, and it is read as it was written."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st

from dispatcher.api.etags import Conditions, Version, names_tag
from dispatcher.api.problems import Problem
from dispatcher.control.paging import cursor_after, page_request
from dispatcher.graphql import opaque_ids
from dispatcher.graphql.pages import page_of, position_after
from shared.domain.durations import MAX_DURATION, MAX_RATE_COUNT, format_duration, parse_duration, parse_rate
from shared.domain.errors import InvalidDefinition
from shared.domain.ids import MAX_ROW_NUMBER, IdKind, decode_id, encode_id
from tests.fuzz.oracles import check_refusal, in_time
from tests.fuzz.target import Target


def check(data: bytes) -> None:
    """One text, read in every way."""
    text = data.decode("utf-8", "surrogateescape")
    with in_time(data):
        _check_ids(text)
        _check_cursors(text)
        _check_opaque_ids(text)
        _check_tags(text)
        _check_durations(text)
        _check_rates(text)


def _check_ids(text: str) -> None:
    for kind in IdKind:
        number = decode_id(kind, text)
        assert number is None or (1 <= number <= MAX_ROW_NUMBER and encode_id(kind, number) == text)


def _check_cursors(text: str) -> None:
    try:
        page = page_request(1, text)
    except InvalidDefinition as refusal:
        assert [error.loc for error in refusal.errors] == [("cursor",)]
    else:
        assert page.position is not None
        assert 0 <= page.position <= MAX_ROW_NUMBER
        assert cursor_after(page.position) == text
    try:
        position = position_after(text)
    except InvalidDefinition as refusal:
        assert [error.loc for error in refusal.errors] == [("after",)]
    else:
        assert all(0 <= number <= MAX_ROW_NUMBER for number in position)
        assert not text or page_of([(position, None)], 1)["edges"][0]["cursor"] == text


def _check_opaque_ids(text: str) -> None:
    if (entity := opaque_ids.read_entity_id(text)) is not None:
        assert opaque_ids.entity_id(entity) == text
        _check_storable(entity)
    if (names := opaque_ids.read_project_id(text)) is not None:
        assert opaque_ids.project_id(*names) == text
        _check_storable(*names)
    if (parts := opaque_ids.read_collection_id(text)) is not None:
        assert opaque_ids.collection_id(*parts) == text
        _check_storable(*parts)


def _check_storable(*names: str) -> None:
    for name in names:
        assert "\0" not in name
        name.encode()


def _check_tags(text: str) -> None:
    version = Version(7)
    names_tag(text, version.tag)
    try:
        Conditions._check_same(text, lambda: version)
    except Problem as problem:
        assert problem.status in (400, 412)
    else:
        assert text.strip() == "*" or '"7"' in text


def _check_durations(text: str) -> None:
    try:
        duration = parse_duration(text)
    except InvalidDefinition as refusal:
        check_refusal(refusal, text)
        return
    assert timedelta() <= duration <= MAX_DURATION
    written = format_duration(duration)
    assert parse_duration(written) == duration
    assert format_duration(parse_duration(written)) == written


def _check_rates(text: str) -> None:
    try:
        rate = parse_rate(text)
    except InvalidDefinition as refusal:
        check_refusal(refusal, text)
        return
    assert 1 <= rate.count <= MAX_RATE_COUNT
    assert parse_rate(str(rate)) == rate


_names = st.text(max_size=5)
_numbers = st.integers(0, 2**64)
_rates = st.builds(
    "{}{}{}".format,
    st.integers(0, 2000),
    st.sampled_from(["/", " / ", "//"]),
    st.sampled_from(["s", "min", "hour", "x"]),
)
_written = st.one_of(
    st.builds(encode_id, st.sampled_from(IdKind), _numbers),
    _numbers.map(cursor_after),
    st.builds(lambda a, b: str(page_of([((a, b), None)], 1)["edges"][0]["cursor"]), _numbers, _numbers),
    _names.map(opaque_ids.entity_id),
    st.builds(opaque_ids.project_id, _names, _names),
    st.builds(opaque_ids.collection_id, _names, _names, _names),
    st.text(alphabet='W/"*7, -ab', max_size=10),
    st.text(alphabet="0123456789.wdhms", max_size=10),
    _rates,
)


def _damaged(text: str, at: int, other: str) -> str:
    at %= len(text) + 1
    return text[:at] + other + text[at + 1 :]


_inputs = _written | st.builds(
    _damaged, _written, st.integers(0, 60), st.sampled_from(["", "=", "A", "-", "9", "٣", "\n", " "])
)

TARGET = Target(
    check,
    inputs=_inputs.map(lambda text: text.encode("utf-8", "surrogateescape")),
    words=(
        "wh_",
        "aut_",
        "YWZ0ZXIg",
        "YWZ0ZXI6",
        "RW50aXR5Og==",
        "UHJvamVjdDp2MTo",
        'W/"7"',
        "1h30m",
        "10/min",
        "9223372036854775807",
    ),
    is_json=False,
)
