"""How what operators do is written to the audit log."""

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
    """Write what an operator did to the audit log, in the transaction that does it.

    Args:
        connection: the transaction's.
        action: such as `webhook.update`.
        entity_id: whose object was changed; None for what concerns the whole installation.
        target: the object's public id.
        detail: what was changed. It must not hold any secret.
        now: the time.
        by: which kind of operator.
    """
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
