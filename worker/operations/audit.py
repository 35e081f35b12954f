"""Who operators are in the audit log, and how commands find the entity that one means."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from shared.storage.accounts.audit_log import NewChange, insert_changes

OPERATOR = "operator (command line)"
REMOTE = "operator (remote control)"
OPERATOR_ID = 0  # no user has it

Row = dict[str, Any]


def record_change(
    connection: Connection,
    action: str,
    *,
    entity_id: int | None,
    target: str,
    detail: Mapping[str, Any],
    now: datetime,
    by: str = OPERATOR,
) -> None:
    """Write down what an operator did, in the transaction that does it; `detail` must not hold any secret."""
    change = NewChange(
        user_id=OPERATOR_ID,
        user_name=by,
        entity_id=entity_id,
        action=action,
        target=target,
        detail=detail,
        now=now,
    )
    insert_changes(connection, [change])
