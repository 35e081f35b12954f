"""Column types that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Integer
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC: `timestamptz` on PostgreSQL, sortable text without an offset on SQLite.

    A naive value is refused, so that no local time ever gets in.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The value in UTC as the database's driver takes it."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone can't be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The stored value, aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def sqlite_time(value: datetime) -> str:
    """The text that SQLite stores for a time, as `UtcDateTime` writes it. Raises ValueError for a naive time."""
    if value.tzinfo is not UTC:
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone can't be stored")
        value = value.astimezone(UTC)
    return value.isoformat(" ", "microseconds")[:26]


def from_sqlite_time(text: str) -> datetime:
    """The time of a text that `sqlite_time` made."""
    return datetime.fromisoformat(f"{text}+00:00")


# Not JSONB, which reorders members and refuses \\u0000: a definition must come out as it went in.
Json: Any = JSON()
# SQLite numbers rows by itself only for a column declared exactly INTEGER PRIMARY KEY.
BigId: Any = BigInteger().with_variant(Integer(), "sqlite")
