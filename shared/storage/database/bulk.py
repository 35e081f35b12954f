"""Passing many values or rows to one statement whose text does not depend on their number.

So drivers parse it, and databases prepare it, once. Values go as one JSON text, which costs the client next to nothing
and which both databases take apart themselves. Rows to insert go to SQLite as they are, which is cheaper there.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    String,
    Table,
    TextClause,
    any_,
    bindparam,
    cast,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects import postgresql

from shared.storage.database.sqlite_rows import insert_values

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


def is_postgresql(connection: Connection) -> bool:
    """Whether statements may be written for PostgreSQL alone."""
    return connection.dialect.name == "postgresql"


def among(connection: Connection, column: Column[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """A condition: a column of numbers or texts has one of these values."""
    return _among(column, literal(json_list(values), String), as_array=is_postgresql(connection))


def among_given(column: Column[Any], name: str, *, as_array: bool) -> ColumnElement[bool]:
    """That condition for a statement that is made once; the parameter `name` is `json_list` of the values."""
    return _among(column, bindparam(name, type_=String), as_array=as_array)


def json_list(values: Collection[Any]) -> str:
    """Values as the parameter of `among_given`."""
    return json.dumps(list(values))


def _among(column: Column[Any], values: ColumnElement[str], *, as_array: bool) -> ColumnElement[bool]:
    if as_array:
        # For an array the planner always takes the index; a join it may hash, and read the whole table.
        elements = func.json_array_elements_text(cast(values, postgresql.JSON)).table_valued("value")
        return column == any_(func.array(select(cast(elements.c.value, column.type)).scalar_subquery()))
    elements = func.json_each(values).table_valued("value")
    return column.in_(select(elements.c.value))


def insert_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows that all have the same columns. A row whose key exists stays as it was."""
    if not rows:
        return
    if not is_postgresql(connection):
        insert_values(connection, table, rows)
        return
    connection.execute(_insert(table, tuple(rows[0])), {"rows": as_recordset(rows)})


@lru_cache(maxsize=64)
def _insert(table: Table, names: tuple[str, ...]) -> TextClause:
    source = f"SELECT {', '.join(names)} FROM {recordset(table, names)}"  # noqa: S608
    return text(f"INSERT INTO {table.name} ({', '.join(names)}) {source} ON CONFLICT DO NOTHING")


def recordset(table: Table, names: Sequence[str], *others: Column[Any], parameter: str = "rows") -> str:
    """PostgreSQL's SQL for rows that are passed in: a source named `given`, with columns of a table and of others.

    The parameter is `as_recordset` of the rows.
    """
    columns = ", ".join(f"{column.name} {_type(column)}" for column in (*(table.c[name] for name in names), *others))
    return f"json_to_recordset(CAST(:{parameter} AS json)) AS given ({columns})"


def as_recordset(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as the parameter of a `recordset`. Values are numbers, texts, booleans, aware datetimes or None."""
    return orjson.dumps(rows).decode()


def _type(column: Column[Any]) -> str:
    # A cast to varchar(n) cuts a value that is too long, where an insert would refuse it.
    return "text" if isinstance(column.type, String) else column.type.compile(_DIALECT)


_CHUNK = 500
"""Values in one statement that has a variable for each; SQLite allows 32,766 of them."""


def chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """The values in pieces of at most `_CHUNK`."""
    return (values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))
