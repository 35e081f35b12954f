"""A fault of the schema is not waited out: what could not be recorded is left to its lease at once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import ExceptionContext, event, text, update
from sqlalchemy.exc import DBAPIError

from shared.storage.database.transactions import write_transaction
from shared.storage.schema.tables import pending_deliveries
from tests.integration.scene import Scene, alias_event

A_DAY = timedelta(days=1)


def test_outcomes_are_not_recorded_again_and_again_where_a_table_is_missing(scene: Scene) -> None:
    hook = scene.webhook()
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    engine, faults = scene.process.engine, list[str]()

    def noted(context: ExceptionContext) -> None:
        faults.append(str(context.original_exception))

    with write_transaction(engine) as connection:
        connection.execute(text("ALTER TABLE attempts RENAME TO attempts_elsewhere"))
    event.listen(engine, "handle_error", noted)
    with pytest.raises(DBAPIError, match="attempts"):
        scene.process.webhooks.drain(hook)
    event.remove(engine, "handle_error", noted)

    (fault,) = faults
    assert "attempts" in fault
    (request,) = scene.receiver.requests
    (waiting,) = scene.pending()
    assert waiting.claim is not None  # sent again after its lease, with the same id
    with write_transaction(engine) as connection:
        connection.execute(text("ALTER TABLE attempts_elsewhere RENAME TO attempts"))
        connection.execute(update(pending_deliveries).values(next_attempt_at=waiting.next_attempt_at - A_DAY))
    scene.deliver()
    assert [row.status for row in scene.rows()] == ["delivered"]
    assert scene.receiver.requests[-1].headers["webhook-id"] == request.headers["webhook-id"]
