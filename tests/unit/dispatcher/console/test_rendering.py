"""Texts of others on pages: what is not seen is shown by its code, and emoji stay whole."""

from __future__ import annotations

import pytest

from dispatcher.console.rendering import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u202eb", "a\\u202eb"),
        ("a\u200db", "a\\u200db"),
        ("\u200d", "\\u200d"),
        ("\U0001f469\u200d\U0001f680", "\U0001f469\u200d\U0001f680"),
        ("\u2764\ufe0f\u200d\U0001f525!", "\u2764\ufe0f\u200d\U0001f525!"),
        ("\U0001f469\u200dx", "\U0001f469\\u200dx"),
        ("tab\tand\nline", "tab\tand\nline"),
    ],
)
def test_what_is_not_seen_is_shown_by_its_code(text: str, shown: str) -> None:
    assert visible(text) == shown
