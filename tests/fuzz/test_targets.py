"""Every fuzz target on its seeds, and on some hundred inputs that hypothesis makes: the quick part of fuzzing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import targets
from tests.fuzz.targets import CORPUS, NAMES

EXAMPLES = 200
FEWER = {"answers": 80, "graphql": 100, "manifests": 80}
"""Where an input costs a request or a transaction."""
SEEDS = [(name, path) for name in NAMES for path in targets.seeds(name)]


@pytest.mark.parametrize(("name", "path"), SEEDS, ids=lambda value: value.name if isinstance(value, Path) else value)
def test_a_seed_passes(name: str, path: Path) -> None:
    targets.load(name).check(path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_inputs_from_hypothesis_pass(name: str) -> None:
    target = targets.load(name)

    @settings(max_examples=FEWER.get(name, EXAMPLES), deadline=None, suppress_health_check=list(HealthCheck))
    @given(target.inputs | st.binary(max_size=40))
    def passes(data: bytes) -> None:
        target.check(data)

    passes()


def test_every_target_has_seeds_and_every_seed_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(NAMES)
    assert {name for name, _ in SEEDS} == set(NAMES)
