"""Poison entries, for instance administrators: stream entries that were set aside, and why."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime

from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control.access import require_instance_admin
from dispatcher.control.bodies import View
from dispatcher.control.errors import NotFound
from dispatcher.control.paging import Page, PageRequest, decode_cursor, encode_cursor
from shared.domain.errors import InvalidDefinition
from shared.storage.accounts.users import Principal
from shared.storage.evaluation import poison as store
from shared.storage.evaluation.poison import Place, StoredPoison

MAX_PARTITION = 2**31 - 1
"""The greatest number of an INTEGER column."""
_ENTRY_ID = re.compile(r"[0-9-]{1,48}", re.ASCII)


class PoisonView(View):
    """A stream entry that is not a valid event, or that could not be evaluated."""

    partition: int
    entry_id: str
    """Its id in the stream."""
    reason: str
    size_bytes: int = Field(description="Of what is kept of its body: 64 KiB at most.")
    created_at: datetime
    """When it was set aside."""


class PoisonDetail(PoisonView):
    """A poison entry with its body."""

    text: str
    """What is kept of the body, as UTF-8; what is none is replaced."""
    base64: str
    """The same bytes."""


def list_poison(
    connection: Connection, principal: Principal, *, limit: int, cursor: str | None = None
) -> Page[PoisonView]:
    """The entries, the newest first. For instance administrators.

    Raises:
        InvalidDefinition: for a cursor that no answer gave.
    """
    require_instance_admin(principal)
    before = None if cursor is None else _place(cursor)
    rows = store.list_poison(connection, before=before, limit=PageRequest(limit).with_one_more)
    shown = rows[:limit]
    return Page(items=[_view(row) for row in shown], next=_cursor(shown[-1]) if len(rows) > limit else None)


def get_poison(connection: Connection, principal: Principal, partition: int, entry_id: str) -> PoisonDetail:
    """One entry with its body. For instance administrators. Raises NotFound."""
    require_instance_admin(principal)
    fits = 0 <= partition <= MAX_PARTITION and _ENTRY_ID.fullmatch(entry_id)
    found = store.find_poison(connection, partition, entry_id) if fits else None
    if found is None:
        raise NotFound("there is no poison entry of this partition and id")
    stored, body = found
    return PoisonDetail(
        **dict(_view(stored)), text=body.decode("utf-8", "replace"), base64=base64.b64encode(body).decode()
    )


def _view(stored: StoredPoison) -> PoisonView:
    return PoisonView(
        partition=stored.partition,
        entry_id=stored.entry_id,
        reason=stored.reason,
        size_bytes=stored.size_bytes,
        created_at=stored.created_at,
    )


def _cursor(row: StoredPoison) -> str:
    microseconds = round(row.created_at.timestamp() * 1_000_000)
    return encode_cursor(json.dumps(["poison", microseconds, row.partition, row.entry_id]))


def _place(cursor: str) -> Place:
    try:
        kind, microseconds, partition, entry_id = json.loads(decode_cursor(cursor))
        if kind == "poison" and 0 <= partition <= MAX_PARTITION and _ENTRY_ID.fullmatch(entry_id):
            return datetime.fromtimestamp(microseconds / 1_000_000, UTC), partition, entry_id
    except (ValueError, TypeError, OverflowError, OSError):
        pass
    raise InvalidDefinition.at(("cursor",), "must be the `next` of an earlier answer")
