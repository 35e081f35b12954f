"""Notices: owners are told of disabled webhooks, circuits and dead letters by events that their automations watch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import orjson
import pytest
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import insert, select, update

from dispatcher.pump.notices import append_notices
from shared.domain.events.decoding import decode_event
from shared.domain.payloads.sealed import MAX_INSERTED_BYTES
from shared.messaging.streams import FIELD, stream_key
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.entities import find_entity, insert_entity
from shared.storage.schema.tables import entities, notices, pending_deliveries, poison_entries, webhooks
from tests.integration.receiver import Answer, Received
from tests.integration.scene import Scene, alias_event

PAYLOAD = {
    "what": "${event_type}",
    "hook": "${webhook_name} ${webhook_id}",
    "why": "${reason}",
    "dead": "${dead_letter_id} ${dead_letter_automation} ${dead_letter_event_type} ${dead_letter_event_id}",
    "by": "${event_author} of ${entity_name}",
}


def waiting(scene: Scene) -> list[Any]:
    with read_transaction(scene.process.engine) as connection:
        return [orjson.loads(text) for text in connection.scalars(select(notices.c.event).order_by(notices.c.id))]


def tell(scene: Scene) -> int:
    """What a pump does."""
    return append_notices(scene.process.engine, scene.redis, scene.settings.partitions)


def go_round(scene: Scene, *, times: int = 1) -> None:
    """Publish notices, evaluate and deliver, until nothing follows or so many times."""
    for _ in range(times):
        tell(scene)
        scene.evaluate()
        scene.deliver()


def bodies(scene: Scene, path: str) -> list[Any]:
    return [request.json for request in scene.receiver.requests if request.path == path]


def answering(status_by_path: dict[str, int]) -> Any:
    def answer(request: Received) -> Answer:
        return Answer(status=status_by_path.get(request.path, 200))

    return answer


def due_now(scene: Scene) -> None:
    with write_transaction(scene.process.engine) as connection:
        # A moment ago: a worker reckons the database's time, and lags by as long as it took to ask for it.
        now = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(update(pending_deliveries).values(next_attempt_at=now))
        connection.execute(
            update(webhooks).where(webhooks.c.circuit_opened_at.is_not(None)).values(circuit_probe_at=now)
        )


class TestDisabled:
    def test_gone_is_told_once_to_whoever_watches(self, scene: Scene) -> None:
        hook = scene.webhook("deploy")
        scene.automation(hook)
        scene.automation(scene.webhook("pager"), event="WEBHOOK_DISABLED", payload=PAYLOAD)
        scene.receiver.answer = answering({"/deploy": 410})
        scene.publish(*(alias_event() for _ in range(5)))
        scene.evaluate()
        scene.deliver()
        [notice] = waiting(scene)
        assert notice["data"]["webhook"] == {"id": f"wh_{hook}", "name": "deploy"}
        go_round(scene, times=3)
        assert bodies(scene, "/pager") == [
            {
                "what": "WEBHOOK_DISABLED",
                "hook": f"deploy wh_{hook}",
                "why": "the endpoint answered 410 Gone",
                "dead": "   ",
                "by": "hookline of acme",
            }
        ]
        assert waiting(scene) == []

    def test_nothing_but_failures_for_days_is_told_with_since_when(self, scene: Scene) -> None:
        hook = scene.webhook(policy={"schedule_seconds": (0.0,) * 5})
        scene.automation(hook)
        scene.automation(scene.webhook("pager"), event="WEBHOOK_DISABLED", filter={"reason": {"$contains": "failures"}})
        scene.receiver.answer = answering({"/hook": 500})
        since = datetime.now(UTC) - scene.settings.disable_after - timedelta(minutes=1)
        with write_transaction(scene.process.engine) as connection:
            connection.execute(update(webhooks).where(webhooks.c.id == hook).values(failing_since=since))
        scene.publish(alias_event())
        scene.evaluate()
        scene.process.webhooks.drain(hook)
        [notice] = waiting(scene)
        assert datetime.fromisoformat(notice["data"]["failing_since"]) == since
        go_round(scene)
        [told] = bodies(scene, "/pager")
        assert told["reason"].startswith("only failures since")
        assert told["webhook_name"] == "hook"

    def test_a_silence_of_days_between_two_failures_disables_nothing(self, scene: Scene) -> None:
        hook = scene.webhook(policy={"schedule_seconds": (0.0,) * 5})
        scene.automation(hook)
        scene.receiver.answer = answering({"/hook": 500})
        before = datetime.now(UTC)
        long_ago = before - scene.settings.disable_after - timedelta(minutes=1)
        with write_transaction(scene.process.engine) as connection:
            silent = update(webhooks).where(webhooks.c.id == hook).values(failing_since=long_ago, failed_at=long_ago)
            connection.execute(silent)
        scene.publish(alias_event())
        scene.evaluate()
        scene.process.webhooks.drain(hook)
        with read_transaction(scene.process.engine) as connection:
            row = connection.execute(select(webhooks).where(webhooks.c.id == hook)).one()
        assert row.enabled
        assert before <= row.failing_since <= row.failed_at

    def test_organizations_watch_the_webhooks_of_their_teams(self, scene: Scene) -> None:
        now = datetime.now(UTC)
        with write_transaction(scene.process.engine) as connection:
            insert_entity(connection, name="org", kind="organization", parent_id=None, now=now)
            org = find_entity(connection, "org")
            assert org is not None
            connection.execute(update(entities).where(entities.c.name == "acme").values(parent_id=org.id))
        scene.automation(scene.webhook())
        above = Scene(scene.settings, scene.process, scene.redis, scene.receiver, org.id)
        pager = above.webhook("pager")
        above.automation(pager, event="WEBHOOK_DISABLED")
        above.automation(pager, event="DEAD_LETTER")
        scene.receiver.answer = answering({"/hook": 410})
        scene.publish(alias_event())
        scene.evaluate()
        scene.deliver()
        go_round(scene)
        assert {told["event_type"] for told in bodies(scene, "/pager")} == {"WEBHOOK_DISABLED", "DEAD_LETTER"}


class TestCircuit:
    POLICY: ClassVar = {"circuit_failures": 3, "circuit_cool_off_seconds": 60, "schedule_seconds": (0.0,) * 20}

    def test_it_is_told_when_it_opens_and_closes_but_not_at_each_probe(self, scene: Scene) -> None:
        hook = scene.webhook(policy=self.POLICY)
        scene.automation(hook)
        pager = scene.webhook("pager")
        for event in ("WEBHOOK_CIRCUIT_OPENED", "WEBHOOK_CIRCUIT_CLOSED"):
            scene.automation(pager, event=event, payload=PAYLOAD)
        scene.receiver.answer = answering({"/hook": 503})
        scene.publish(*(alias_event() for _ in range(4)))
        scene.evaluate()
        for _ in range(3):
            scene.process.webhooks.drain(hook)
            scene.settle()
            due_now(scene)
        scene.receiver.answer = answering({})
        scene.process.webhooks.drain(hook)
        scene.settle()
        opened, closed = waiting(scene)
        assert opened["data"]["reason"].endswith("failures in a row; the last: the endpoint answered 503")
        assert closed["data"]["reason"] == "the endpoint answers again"
        go_round(scene)
        assert {told["what"] for told in bodies(scene, "/pager")} == {
            "WEBHOOK_CIRCUIT_OPENED",
            "WEBHOOK_CIRCUIT_CLOSED",
        }

    def test_deliveries_of_notices_turn_circuits_and_nothing_is_told(self, scene: Scene) -> None:
        """An automation that sends what it hears about a webhook to that webhook: one notice, and no chain of them."""
        hook = scene.webhook(policy={**self.POLICY, "circuit_failures": 1})
        ordinary = scene.automation(hook)
        for event in ("WEBHOOK_CIRCUIT_OPENED", "WEBHOOK_CIRCUIT_CLOSED"):
            scene.automation(hook, event=event, cooldown=None)
        answers = iter([500, 200] * 40)
        scene.receiver.answer = lambda _request: Answer(status=next(answers))
        scene.publish(alias_event())
        for _ in range(20):
            go_round(scene)
            due_now(scene)
        rows = scene.rows()
        assert {row.status for row in rows} == {"delivered"}
        assert [row.automation_id for row in rows].count(ordinary) == 1
        assert len(rows) <= 3
        assert waiting(scene) == []


class TestDeadLetters:
    def test_each_is_told_where_somebody_watches_and_names_what_it_was(self, scene: Scene) -> None:
        hook = scene.webhook("deploy", policy={"schedule_seconds": (0.0,)})
        scene.automation(hook, name="deploy llm")
        scene.automation(scene.webhook("pager"), event="DEAD_LETTER", cooldown=None, payload=PAYLOAD)
        scene.receiver.answer = answering({"/deploy": 500})
        scene.publish(alias_event(event_id="first"), alias_event(event_id="second"))
        scene.evaluate()
        scene.deliver()
        go_round(scene)
        dead = {row.event_id: row for row in scene.rows() if row.status == "dead"}
        assert sorted(bodies(scene, "/pager"), key=lambda told: str(told["dead"])) == sorted(
            (
                {
                    "what": "DEAD_LETTER",
                    "hook": f"deploy wh_{hook}",
                    "why": "out of retries after 2 attempts: the endpoint answered 500",
                    "dead": f"{dead[event].id} deploy llm ADD_ARTIFACT_ALIAS {event}",
                    "by": "hookline of acme",
                }
                for event in ("first", "second")
            ),
            key=lambda told: str(told["dead"]),
        )

    def test_a_webhook_is_told_of_once_an_hour_unless_asked_otherwise(self, scene: Scene) -> None:
        for name in ("one", "other"):
            scene.automation(scene.webhook(name))
        scene.automation(scene.webhook("pager"), event="DEAD_LETTER")
        scene.receiver.answer = answering({"/one": 404, "/other": 404})
        scene.publish(*(alias_event() for _ in range(20)))
        scene.evaluate()
        scene.deliver()
        go_round(scene)
        assert sorted(told["webhook_name"] for told in bodies(scene, "/pager")) == ["one", "other"]
        assert [row.reason for row in scene.rows() if row.status == "skipped"] == ["cooldown"] * 38

    def test_where_nobody_watches_nothing_is_written(self, scene: Scene) -> None:
        scene.automation(scene.webhook())
        scene.automation(scene.webhook("pager"), event="DEAD_LETTER", enabled=False)
        scene.receiver.answer = answering({"/hook": 404})
        scene.publish(alias_event())
        scene.evaluate()
        scene.deliver()
        assert [row.status for row in scene.rows()] == ["refused"]
        assert waiting(scene) == []

    def test_another_entity_that_watches_hears_nothing(self, scene: Scene) -> None:
        with write_transaction(scene.process.engine) as connection:
            insert_entity(connection, name="other", kind="team", parent_id=None, now=datetime.now(UTC))
            other = find_entity(connection, "other")
        assert other is not None
        elsewhere = Scene(scene.settings, scene.process, scene.redis, scene.receiver, other.id)
        elsewhere.automation(elsewhere.webhook("pager"), event="DEAD_LETTER")
        scene.automation(scene.webhook())
        scene.receiver.answer = answering({"/hook": 404})
        scene.publish(alias_event())
        scene.evaluate()
        scene.deliver()
        assert waiting(scene) == []

    def test_a_dead_letter_of_a_notice_makes_no_notice(self, scene: Scene) -> None:
        """Two automations that send dead letters to webhooks that refuse everything, each about the other's."""
        for name in ("a", "b"):
            hook = scene.webhook(name)
            scene.automation(hook, event="DEAD_LETTER", cooldown=None, filter={"webhook": {"$ne": name}})
        scene.automation(scene.webhook("c"))
        scene.receiver.answer = answering({"/a": 404, "/b": 404, "/c": 404})
        scene.publish(alias_event())
        scene.evaluate()
        scene.deliver()
        go_round(scene, times=5)
        assert [row.status for row in scene.rows()] == ["refused"] * 3
        assert waiting(scene) == []

    def test_a_payload_that_grows_too_large_is_told_as_well(self, scene: Scene) -> None:
        large = {f"{number}": "${artifact_metadata.text}" for number in range(6)}
        scene.automation(scene.webhook(), payload=large)
        scene.automation(scene.webhook("pager"), event="DEAD_LETTER")
        metadata = {"text": "x" * (MAX_INSERTED_BYTES // 5)}
        scene.publish(alias_event(artifact={"id": "a", "metadata": metadata}))
        scene.evaluate()
        [notice] = waiting(scene)
        assert notice["data"]["delivery"]["status"] == "refused"
        assert "the payload would insert" in notice["data"]["reason"]


class TestNeverLost:
    def test_notices_wait_for_streams_that_are_away_and_doubled_ones_fire_once(self, scene: Scene) -> None:
        scene.automation(scene.webhook())
        scene.automation(scene.webhook("pager"), event="WEBHOOK_DISABLED")
        scene.receiver.answer = answering({"/hook": 410})
        scene.publish(alias_event())
        scene.evaluate()
        scene.deliver()
        [notice] = waiting(scene)
        with Redis(port=1) as away, pytest.raises(RedisError):
            append_notices(scene.process.engine, away, scene.settings.partitions)
        assert waiting(scene) == [notice]
        # A pump that died between appending and deleting.
        scene.publish(notice)
        assert tell(scene) == 1
        assert waiting(scene) == []
        scene.evaluate()
        scene.deliver()
        assert len(bodies(scene, "/pager")) == 1

    def test_all_of_many_are_appended(self, scene: Scene) -> None:
        template = {
            "specversion": "1.0",
            "source": "/hookline",
            "type": "WEBHOOK_CIRCUIT_CLOSED",
            "data": {"entity": "acme", "webhook": {"id": "wh_1", "name": "hook"}},
        }
        made = [orjson.dumps({**template, "id": f"n{number}"}).decode() for number in range(1201)]
        with write_transaction(scene.process.engine) as connection:
            now = datetime.now(UTC)
            connection.execute(insert(notices), [{"event": event, "created_at": now} for event in made])
        assert [tell(scene) for _ in range(4)] == [500, 500, 201, 0]
        raw: Any = [scene.redis.xrange(stream_key(partition)) for partition in range(scene.settings.partitions)]
        appended = [decode_event(fields[FIELD]).id for entries in raw for _id, fields in entries]
        assert sorted(appended) == sorted(f"n{number}" for number in range(1201))

    def test_what_another_version_wrote_blocks_nobody(self, scene: Scene) -> None:
        with write_transaction(scene.process.engine) as connection:
            connection.execute(insert(notices).values(event='{"type": "OF_TOMORROW"}', created_at=datetime.now(UTC)))
        assert tell(scene) == 1
        scene.evaluate()
        with read_transaction(scene.process.engine) as connection:
            assert connection.scalar(select(poison_entries.c.body)) == b'{"type": "OF_TOMORROW"}'
