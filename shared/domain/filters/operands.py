"""Operands that a field can never meet: a number where the field is always text.

Filters that are stored already may have some, and just never hold. So only who takes a new filter asks. Must not know
how a field is read: that is `fields.py` beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from shared.domain.events.types import ALIAS_TYPES, ARTIFACT_TYPES, PUBLISHED_TYPES, TAG_TYPES, AlertLevel, EventType
from shared.domain.filters.fields import member_field

_EQUALITIES: Final = frozenset({"$eq", "$ne"})
_MEMBERSHIPS: Final = frozenset({"$in", "$nin"})
_ORDERS: Final = frozenset({"$gt", "$gte", "$lt", "$lte"})
NULLABLE: Final = frozenset({"run.name", "run.display_name", "run.config"})
"""What an event may leave out."""
RUN_TEXTS: Final = frozenset({"run.id", "run.name", "run.display_name"})

OBJECT_FIELD: Final = "run.config"
"""The field that is an object, or left out."""

_CLOSED: Final[dict[EventType, dict[str, tuple[str, ...]]]] = {
    EventType.RUN_ALERT: {"level": tuple(AlertLevel)},
    EventType.DEAD_LETTER: {"status": ("dead", "refused"), "event_type": tuple(PUBLISHED_TYPES)},
}


class OperandFault(NamedTuple):
    """What is wrong with an operand, or with a member of it."""

    loc: tuple[int, ...]
    message: str


def operand_faults(event_type: EventType, field: str, op: str, operand: object) -> Iterator[OperandFault]:
    """The faults of an operand that this field of such events can never meet, whatever the event."""
    if field == OBJECT_FIELD:
        yield from _object_faults(op, operand)
    elif field in RUN_TEXTS or member_field(event_type, field) is None:
        listed, closed = field in list_fields(event_type), closed_values(event_type, field)
        if op in _MEMBERSHIPS and isinstance(operand, list | tuple):
            for index, one in enumerate(operand):
                for loc, text in _value_faults(field, one, listed=listed, closed=closed):
                    yield OperandFault((index, *loc), text)
        elif op in _EQUALITIES:
            yield from _value_faults(field, operand, listed=listed, closed=closed)
        elif op in _ORDERS:
            yield from _text_faults(field, operand, listed=False)


def list_fields(event_type: EventType) -> tuple[str, ...]:
    """The fields that are lists of texts on this event type."""
    if event_type not in ARTIFACT_TYPES:
        return ()
    own = (*(() if event_type in ALIAS_TYPES else ("alias",)), *(() if event_type in TAG_TYPES else ("tag",)))
    return ("aliases", "tags", *own)


def closed_values(event_type: EventType, field: str) -> tuple[str, ...] | None:
    """The values of a field that can have no others; None for one that may hold any text."""
    return _CLOSED.get(event_type, {}).get(field)


def _value_faults(field: str, value: object, *, listed: bool, closed: tuple[str, ...] | None) -> Iterator[OperandFault]:
    if closed is not None and isinstance(value, str):
        if value not in closed:
            yield OperandFault((), f"must be one of {', '.join(closed)}: {field} is never another text")
        return
    yield from _text_faults(field, value, listed=listed)


def _text_faults(field: str, value: object, *, listed: bool) -> Iterator[OperandFault]:
    if isinstance(value, str) or (value is None and field in NULLABLE):
        return
    if listed and isinstance(value, list | tuple):
        for index, one in enumerate(value):
            yield from (OperandFault((index, *loc), text) for loc, text in _text_faults(field, one, listed=False))
        return
    yield OperandFault((), f"must be text, in quotes: {field} is never {_kind(value)}")


def _object_faults(op: str, operand: object) -> Iterator[OperandFault]:
    values = operand if op in _MEMBERSHIPS and isinstance(operand, list | tuple) else [operand]
    for index, value in enumerate(values):
        if op != "$exists" and not (value is None or isinstance(value, dict)):
            loc = (index,) if op in _MEMBERSHIPS else ()
            message = f"must be an object or null: run.config is never {_kind(value)}; name a key, as in config.lr"
            yield OperandFault(loc, message)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "an object" if isinstance(value, dict) else "a list; $in compares with each of several"
