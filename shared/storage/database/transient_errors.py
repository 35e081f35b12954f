"""Telling errors of the database that pass by themselves, so that a retry makes sense, from those that do not."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

_PRIMARY = 0xFF
"""SQLite's extended codes have the primary one in their lowest byte (https://www.sqlite.org/rescode.html)."""


def is_transient(exc: BaseException) -> bool:
    """Whether the same statement may succeed later: the database is away, busy, full, or has no connection left.

    A missing table or column does not pass by itself: PostgreSQL's driver raises a `ProgrammingError` for it, SQLite's
    an `OperationalError` like any other, with the code SQLITE_ERROR.
    """
    if isinstance(exc, NoConnection):
        return True
    if not isinstance(exc, OperationalError):
        return False
    code = getattr(exc.orig, "sqlite_errorcode", None)
    return code is None or code & _PRIMARY != sqlite3.SQLITE_ERROR
