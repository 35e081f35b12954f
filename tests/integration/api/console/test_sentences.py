"""No sentence of the page that the console answers to is left out, and each is tried by a test that exists."""

from __future__ import annotations

from importlib import import_module

from tests.integration.api.console.browser.sentences import NONE, SENTENCES

COUNT = 67


def test_every_sentence_has_a_test_or_a_reason() -> None:
    assert sorted(SENTENCES) == list(range(1, COUNT + 1))
    for number, places in SENTENCES.items():
        assert places, number
        for place in places:
            if not place.startswith(NONE):
                module, _, name = place.partition("::")
                found = import_module(f"tests.integration.api.console.browser.{module}")
                assert callable(getattr(found, name, None)), (number, place)


def test_every_walk_stands_for_a_sentence() -> None:
    seed = import_module("tests.integration.api.console.browser.test_seed")
    named = {place.partition("::")[2] for places in SENTENCES.values() for place in places}
    assert {name for name in vars(seed) if name.startswith("test_")} <= named
