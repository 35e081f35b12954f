"""Taking secrets out of text that others wrote, such as an endpoint's answer that repeats the request it got."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

SHORTEST_REMNANT = 4


def mask_secrets(text: str, secrets: Mapping[str, str], *, cut: bool = False) -> str:
    """The text with `***NAME***` in place of each secret's value, also where it stands inside a JSON string.

    Args:
        text: what may contain values.
        secrets: the values by their names; empty values are passed over.
        cut: whether the text was cut off, so that its end may be the beginning of a value.
    """
    # The longest first: a value may contain another.
    for value, name in sorted(_spellings(secrets), key=lambda spelling: len(spelling[0]), reverse=True):
        text = text.replace(value, f"***{name}***")
        if cut:
            text = _without_remnant(text, value, name)
    return text


def _spellings(secrets: Mapping[str, str]) -> set[tuple[str, str]]:
    raw = {(value, name) for name, value in secrets.items() if value}
    return raw | {(orjson.dumps(value)[1:-1].decode(), name) for value, name in raw}


def _without_remnant(text: str, value: str, name: str) -> str:
    for length in range(min(len(value) - 1, len(text)), SHORTEST_REMNANT - 1, -1):
        if text.endswith(value[:length]):
            return f"{text[:-length]}***{name}***"
    return text
