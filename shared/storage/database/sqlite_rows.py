"""Bulk insertion on SQLite: one prepared statement for rows of one shape, values converted here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import Connection, Table

from shared.storage.database.columns import UtcDateTime, sqlite_time

_ROWS_PER_STATEMENT = (128, 64, 32, 16, 8, 4, 2, 1)
"""The numbers of rows that one statement may insert: eight texts, each of which a connection prepares once."""


def insert_values(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the same columns, none of them JSON. A row whose key exists stays as it was."""
    names = tuple(rows[0])
    values_of, times = _shape(table, names)
    begin = 0
    for count in _ROWS_PER_STATEMENT:
        while len(rows) - begin >= count:
            values = list(chain.from_iterable(map(values_of, rows[begin : begin + count])))
            for place in times:
                values[place :: len(names)] = _stored(values[place :: len(names)])
            connection.exec_driver_sql(_insert(table.name, names, count), tuple(values))
            begin += count


@lru_cache(maxsize=64)
def _shape(table: Table, names: tuple[str, ...]) -> tuple[Callable[[Mapping[str, Any]], tuple[Any, ...]], list[int]]:
    """A function that takes the values out of a row, and the places of those that are times."""
    return itemgetter(*names), [
        place for place, name in enumerate(names) if isinstance(table.c[name].type, UtcDateTime)
    ]


def _stored(times: list[datetime | None]) -> list[str | None]:
    first = times[0]
    if times.count(first) == len(times):  # mostly so: the time of the batch
        return [None if first is None else sqlite_time(first)] * len(times)
    return [None if one is None else sqlite_time(one) for one in times]


@lru_cache(maxsize=64)
def _insert(table: str, names: tuple[str, ...], count: int) -> str:
    row = f"({', '.join('?' * len(names))})"
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES {', '.join([row] * count)} ON CONFLICT DO NOTHING"  # noqa: S608


def to_json(values: Sequence[Any]) -> str:
    """Values as the parameter of a `json_each`."""
    return orjson.dumps(values).decode()
