"""Many values or rows in one statement whose text does not depend on how many: drivers parse and prepare it once.

They go as one JSON text, which costs the client next to nothing and which both databases take apart themselves. SQLite
gets the values of new rows as they are, which costs it less.
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
    """Whether a column of numbers or texts has one of these values."""
    return _among(column, literal(listed(values), String), as_array=is_postgresql(connection))


def among_given(column: Column[Any], name: str, *, as_array: bool) -> ColumnElement[bool]:
    """The same for values that are given later, as `listed`: for statements that are made once."""
    return _among(column, bindparam(name, type_=String), as_array=as_array)


def listed(values: Collection[Any]) -> str:
    """Values as `among_given` takes them."""
    return json.dumps(list(values))


def _among(column: Column[Any], listed: ColumnElement[str], *, as_array: bool) -> ColumnElement[bool]:
    if as_array:
        # An array, for which the index is always taken; a join may be hashed.
        elements = func.json_array_elements_text(cast(listed, postgresql.JSON)).table_valued("value")
        return column == any_(func.array(select(cast(elements.c.value, column.type)).scalar_subquery()))
    elements = func.json_each(listed).table_valued("value")
    return column.in_(select(elements.c.value))


def insert_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows that all have the same columns; a row whose key exists is left as it is."""
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
    """PostgreSQL's SQL for rows with these columns of a table, named `given`; their values are a parameter.

    The rows may have columns of other tables as well.
    """
    columns = ", ".join(f"{column.name} {_type(column)}" for column in (*(table.c[name] for name in names), *others))
    return f"json_to_recordset(CAST(:{parameter} AS json)) AS given ({columns})"


def as_recordset(rows: Sequence[Mapping[str, Any]]) -> str:
    """The parameter `rows` of a `recordset`: numbers, texts, truth values, aware datetimes and nulls."""
    return orjson.dumps(rows).decode()


def _type(column: Column[Any]) -> str:
    # A conversion to varchar(n) could cut values short where an insert refuses them.
    return "text" if isinstance(column.type, String) else column.type.compile(_DIALECT)


_CHUNK = 500  # SQLite takes 32,766 variables in a statement


def chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """The values in pieces that fit into one statement."""
    return (values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))
