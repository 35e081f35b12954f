"""What one request looks up: once where it only reads, anew where it writes."""

from __future__ import annotations

from datetime import UTC, datetime

from shared.storage.database.transactions import read_transaction, reading_once, write_transaction
from shared.storage.definitions.entities import find_entity, insert_entity, update_entity
from tests.integration.scene import Scene


def test_a_request_that_only_reads_looks_up_an_entity_once(scene: Scene) -> None:
    engine = scene.process.engine
    once = reading_once(engine)
    with write_transaction(engine) as connection:
        insert_entity(connection, name="found", kind="team", parent_id=None, now=datetime.now(UTC))
    with read_transaction(once) as connection:
        found = find_entity(connection, "found")
    assert found is not None and found.kind == "team"
    with write_transaction(once) as connection:
        update_entity(connection, found.id, kind="organization", parent_id=None)
        written = find_entity(connection, "found")
    assert written is not None and written.kind == "organization"
    with read_transaction(once) as connection:
        assert find_entity(connection, "found") is found
    with read_transaction(engine) as connection:
        assert find_entity(connection, "found") == written
