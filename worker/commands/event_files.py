"""Reading the events of a file for `automations explain`: one JSON object, a list of them, or one on each line."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import check_event, check_events
from shared.domain.events.models import Event
from shared.domain.explain.dry_run import MAX_EVENTS
from shared.domain.json_text import read_event_json


def read_events(content: bytes) -> list[Event]:
    """The checked events.

    Raises:
        InvalidDefinition: under `event` for one object, under `events` and its index for several.
    """
    try:
        value = read_event_json(content)
    except orjson.JSONDecodeError as exc:
        return _checked(_of_lines(content, exc))
    if isinstance(value, list):
        return _checked(value)
    try:
        return [check_event(value)]
    except InvalidDefinition as exc:
        raise exc.under("event") from None


def _checked(candidates: Sequence[object]) -> list[Event]:
    try:
        return check_events(candidates)
    except InvalidDefinition as exc:
        raise exc.under("events") from None


def _of_lines(content: bytes, whole: orjson.JSONDecodeError) -> list[object]:
    lines = [line for line in content.splitlines() if line.strip()]
    if len(lines) < 2:
        raise InvalidDefinition.at(("event",), f"is not JSON: {whole.msg} at line {whole.lineno}, column {whole.colno}")
    values = []
    for index, line in enumerate(lines[: MAX_EVENTS + 1]):  # one more than is accepted, so that it is refused
        try:
            values.append(read_event_json(line))
        except orjson.JSONDecodeError as exc:
            raise InvalidDefinition.at(("events", index), f"is not JSON: {exc.msg} at column {exc.colno}") from None
    return values
