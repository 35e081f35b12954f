"""Times in queries: given as such, or as how long ago."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import PlainValidator, TypeAdapter, ValidationError
from sqlalchemy import Connection

from dispatcher.control.bodies import Timestamp
from shared.domain.durations import parse_duration
from shared.domain.errors import InvalidDefinition
from shared.storage.database.clock import database_time

_FORM = "must be a time as in RFC 3339, with its offset: 2026-11-23T09:00:00Z; or how long ago: 30s, 15m, 24h, 5d"
_TIME: TypeAdapter[datetime] = TypeAdapter(Timestamp)


def _moment(text: object) -> object:
    """A text that `time_of` reads; the database's clock, which it needs, is asked later."""
    if isinstance(text, str) and _is_duration(text):
        return text
    try:
        return _TIME.validate_python(text)
    except ValidationError:
        raise ValueError(_FORM) from None


def _is_duration(text: str) -> bool:
    try:
        parse_duration(text)
    except InvalidDefinition:
        return False
    return True


Moment = Annotated[datetime | str, PlainValidator(_moment, json_schema_input_type=str)]
"""A time, or text that says how long ago."""


def time_of(connection: Connection, given: datetime | str | None) -> datetime | None:
    """The time that is meant, by the database's clock."""
    return database_time(connection) - parse_duration(given) if isinstance(given, str) else given
