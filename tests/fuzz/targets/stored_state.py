"""Stored windows and firing times: whatever bytes are found in the database, they are read exactly or refused."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from shared.domain.conditions.conditions import parse_conditions
from shared.domain.conditions.windows import Series, UnreadableState, WindowState, compile_conditions
from shared.domain.matching.throttling import FiringState
from tests.fuzz.oracles import in_time
from tests.fuzz.target import Target

CONDITIONS = parse_conditions(
    [
        {"metric": "acc", "op": "$gt", "threshold": 0.5, "aggregate": "AVERAGE", "window": 3},
        {"metric": "loss", "zscore": {}, "window": 2},
    ]
)


def check(data: bytes) -> None:
    """The first byte says which kind of state the rest stands for."""
    kind, stored = data[:1], data[1:]
    with in_time(data):
        if kind == b"F":
            _check_firings(stored)
        else:
            _check_windows(stored)


def _check_firings(stored: bytes) -> None:
    try:
        recent = FiringState.recent_from_bytes(stored)
    except UnreadableState:
        return
    assert all(isinstance(moment, int) for moment in recent)
    assert FiringState(None, recent).to_bytes() == stored


def _check_windows(stored: bytes) -> None:
    try:
        state = WindowState.from_bytes(stored)
    except UnreadableState:
        return
    written = state.to_bytes()
    assert WindowState.from_bytes(written).to_bytes() == written
    _check_form(state)
    compiled = compile_conditions(CONDITIONS)
    if len(state.held) != len(CONDITIONS):
        return  # evaluation asks for the number of its conditions
    for step in (0, 2**62):
        observation = compiled.observe(state, step, {"acc": 0.9, "loss": 1.0, "other": math.nan})
        assert isinstance(observation.fired, bool)


def _check_form(state: WindowState) -> None:
    assert isinstance(state.armed, bool)
    assert isinstance(state.held, list)
    assert all(held is None or isinstance(held, bool) for held in state.held)
    for name, series in state.series.items():
        assert isinstance(name, str)
        assert isinstance(series.last_step, int)
        assert not isinstance(series.last_step, bool)
        assert isinstance(series.finite, bool)
        assert all(map(math.isfinite, series.values)), "a window holds what is no number"


_floats = st.floats(allow_nan=False, allow_infinity=False)
_series = st.builds(Series, st.integers(0, 2**63 - 1), st.lists(_floats, max_size=4), st.booleans())
_states = st.builds(
    WindowState,
    st.lists(st.none() | st.booleans(), min_size=2, max_size=2),
    st.dictionaries(st.sampled_from(["acc", "loss", "x"]), _series, max_size=3),
    st.booleans(),
)


def _damaged(stored: bytes, at: int, byte: int, cut: int) -> bytes:
    """One byte changed, and the end cut off."""
    at %= len(stored)
    return (stored[:at] + bytes([byte]) + stored[at + 1 :])[: len(stored) - cut]


_stored = _states.map(WindowState.to_bytes)
_windows = _stored | st.builds(
    _damaged, _stored, st.integers(0, 200), st.integers(0, 255), st.sampled_from((0, 0, 1, 8))
)

TARGET = Target(
    check,
    inputs=st.builds(bytes.__add__, st.just(b"W"), _windows)
    | st.builds(bytes.__add__, st.sampled_from((b"F", b"W")), st.binary(max_size=40)),
    words=("[true,[null,true],[[", '["acc",1,true,0]', "null", "-1", "1e9", "18446744073709551616"),
    is_json=False,
)
