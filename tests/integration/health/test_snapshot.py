"""Health on real servers: each check fails by what it is about, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Engine, insert, update

from shared.config.server_urls import parse_redis
from shared.domain.health_checks import CHECKS
from shared.health.environment import EnvironmentFault, clock_faults
from shared.health.presence import PROCESSES_KEY, Doing, Presence, read_processes
from shared.health.snapshot import CheckStatus, Health, take_snapshot
from shared.messaging.redis_clients import connect
from shared.messaging.streams import FIELD, stream_key
from shared.settings import Settings
from shared.storage.accounts.api_keys import create_key, new_key, revoke_key
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import write_transaction
from shared.storage.delivery.webhook_health import disable_webhook
from shared.storage.schema.tables import attempts, deliveries, pending_deliveries, users, webhooks
from shared.vault import Vault
from tests.integration.processes import wait_until
from tests.integration.receiver import Answer
from tests.integration.scene import Scene, alias_event

ALL_QUEUES = ("evaluate", "deliver", "deliver_slow")


def failing(health: Health) -> set[str]:
    """The names of the checks that fail."""
    return {one.check.name for one in health.checks if one.status is CheckStatus.FAILING}


@contextmanager
def present(settings: Settings, role: str, **doing: Any) -> Iterator[Presence]:
    """A process that shows signs of life."""
    faults = doing.pop("faults", [])
    one = Presence(settings, role, lambda: faults, name=f"{role}@test", doing=lambda: Doing(**doing))
    one.start()
    with connect(parse_redis(settings.stream_url)) as redis:
        wait_until(lambda: any(seen.role == role for seen in read_processes(redis)), f"a sign of life of {role}")
        try:
            yield one
        finally:
            one.stop()


@contextmanager
def whole(settings: Settings) -> Iterator[None]:
    """An installation in which all parts run."""
    with present(settings, "dispatcher", swept_seconds_ago=0.5), present(settings, "worker", queues=ALL_QUEUES):
        yield


def look(scene: Scene, **changed: Any) -> Health:
    """Health, but for Redis' settings: those of tests keep no file."""
    health = take_snapshot(scene.settings, scene.process.engine, changed.get("vault", scene.process.vault))
    assert [one.check for one in health.checks] == list(CHECKS)
    assert {one.fault for one in health.environment} <= {"redis_not_durable"} | changed.get("faults", set())
    return health


def _lag(scene: Scene) -> None:
    scene.redis.xadd(stream_key(0), {FIELD: b"{}"}, id="1000-1")


def _fired(scene: Scene, *, answer: int = 200, deliver: bool = True) -> int:
    scene.receiver.answer = lambda _request: Answer(answer)
    hook = scene.webhook()
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    if deliver:
        scene.deliver()
    return hook


def _change(scene: Scene, table: Any, **values: Any) -> None:
    with write_transaction(scene.process.engine) as connection:
        connection.execute(update(table).values(**values))


def _stuck(scene: Scene) -> None:
    _fired(scene, deliver=False)
    _change(scene, pending_deliveries, next_attempt_at=datetime.now(UTC) - timedelta(hours=1))


def _circuit(scene: Scene) -> None:
    scene.webhook()
    opened = datetime.now(UTC) - timedelta(hours=1)
    _change(scene, webhooks, circuit_opened_at=opened, circuit_probe_at=datetime.now(UTC) + timedelta(hours=1))


def _disabled(scene: Scene) -> None:
    hook = scene.webhook()
    with write_transaction(scene.process.engine) as connection:
        disable_webhook(connection, hook, reason="it answered 410", now=datetime.now(UTC))


def _poison(scene: Scene) -> None:
    scene.redis.xadd(stream_key(0), {FIELD: b"no JSON"})
    scene.evaluate()


def _key(scene: Scene, *, made_days_ago: float, ends_in_days: float, revoked: bool = False) -> None:
    now = datetime.now(UTC)
    made, ends = now - timedelta(days=made_days_ago), now + timedelta(days=ends_in_days)
    with write_transaction(scene.process.engine) as connection:
        user = connection.execute(
            insert(users).values(name=f"user-{ends}-{made}", created_at=made).returning(users.c.id)
        ).scalar_one()
        key = create_key(connection, user_id=user, name="k", text=new_key(), now=made, expires_at=ends)
        if revoked:
            revoke_key(connection, key, of=None, now=now)


def _keys_that_are_right(scene: Scene) -> None:
    _key(scene, made_days_ago=100, ends_in_days=8)
    _key(scene, made_days_ago=100, ends_in_days=-1)
    _key(scene, made_days_ago=0.1, ends_in_days=0.1)
    _key(scene, made_days_ago=100, ends_in_days=3, revoked=True)


def _internal(scene: Scene) -> None:
    _fired(scene)
    _change(scene, attempts, outcome="internal")


HURTS: dict[str, tuple[Callable[[Scene], object], set[str]]] = {
    "nothing": (lambda _scene: None, set()),
    "a delivery": (_fired, set()),
    "evaluation_lag": (_lag, {"evaluation_lag"}),
    "oldest_due": (_stuck, {"oldest_due"}),
    "dead_letters": (lambda scene: _fired(scene, answer=404), {"dead_letters"}),
    "internal_faults": (_internal, {"internal_faults"}),
    "circuits_open": (_circuit, {"circuits_open"}),
    "webhooks_disabled": (_disabled, {"webhooks_disabled"}),
    "poison_entries": (_poison, {"poison_entries"}),
    "keys_ending": (lambda scene: _key(scene, made_days_ago=100, ends_in_days=6), {"keys_ending"}),
    "keys that don't end soon": (_keys_that_are_right, set()),
}


@pytest.mark.parametrize("hurt", HURTS)
def test_a_check_fails_by_what_it_is_about(scene: Scene, hurt: str) -> None:
    act, expected = HURTS[hurt]
    with whole(scene.settings):
        act(scene)
        health = look(scene)
        assert failing(health) - {"environment"} == expected
        assert [one.check.name for one in health.checks if one.status is CheckStatus.UNKNOWN] == []
        troubled = {one.trouble for one in health.webhooks or ()}
        kinds = {"oldest_due": {"stuck"}, "circuits_open": {"circuit_open"}, "webhooks_disabled": {"disabled"}}
        assert troubled == kinds.get(hurt, set())
    if hurt == "dead_letters":
        _change(scene, deliveries, finished_at=datetime.now(UTC) - timedelta(hours=1))
        assert "dead_letters" not in failing(look(scene))


def test_parts_that_do_not_run_fail(scene: Scene) -> None:
    gone = {"last_sweep", "workers_evaluate", "workers_deliver", "workers_deliver_slow"}
    assert failing(look(scene)) - {"environment"} == gone
    with whole(scene.settings):
        assert failing(look(scene)) - {"environment"} == set()
    assert failing(look(scene)) - {"environment"} == gone, "ended processes say so"
    with present(scene.settings, "worker", queues=("evaluate",)):
        assert failing(look(scene)) - {"environment"} == gone - {"workers_evaluate"}
    with present(scene.settings, "dispatcher", swept_seconds_ago=90.0):
        health = look(scene)
        (sweep,) = (one for one in health.checks if one.check.name == "last_sweep")
        assert sweep.status is CheckStatus.FAILING and (sweep.value or 0) >= 90


def test_what_was_killed_and_what_cannot_be_read_is_not_alive(scene: Scene) -> None:
    scene.redis.hset(PROCESSES_KEY, "worker:killed:1", '1000 {"role": "worker"}')
    scene.redis.hset(PROCESSES_KEY, "worker:newer:1", "9999999999 [1]")
    scene.redis.hset(PROCESSES_KEY, "worker:junk:1", "junk")
    assert read_processes(scene.redis) == []
    assert scene.redis.hkeys(PROCESSES_KEY) == [b"worker:newer:1"]


def test_secrets_of_another_key_are_named(scene: Scene) -> None:
    scene.secret("TOKEN", "v")
    assert "secrets_unreadable" not in failing(look(scene))
    health = look(scene, vault=Vault([Fernet.generate_key().decode()]))
    assert "secrets_unreadable" in failing(health)
    assert health.unreadable == [("acme", "TOKEN")]


def test_faults_of_all_processes_are_told(scene: Scene) -> None:
    fault = EnvironmentFault("descriptors", "may open 72 files")
    with present(scene.settings, "worker", faults=[fault]):
        health = look(scene, faults={"descriptors"})
    assert ("descriptors", "worker worker@test: may open 72 files") in {
        (one.fault, one.text) for one in health.environment
    }
    assert "environment" in failing(health)


@pytest.mark.parametrize(("off_seconds", "word"), [(0, None), (2, "ahead of"), (-7200, "behind")])
def test_a_clock_that_is_off_is_a_fault(engine: Engine, off_seconds: int, word: str | None) -> None:
    found = clock_faults(engine, now=lambda: datetime.now(UTC) + timedelta(seconds=off_seconds))
    if word is None or engine.dialect.name != "postgresql":
        assert found == []
    else:
        assert [one.fault for one in found] == ["clock"]
        assert word in found[0].text


def test_a_server_that_is_away_fails_alone_and_leaves_the_rest_unknown(scene: Scene) -> None:
    settings = scene.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    health = take_snapshot(settings, scene.process.engine, scene.process.vault)
    unknown = {one.check.name for one in health.checks if one.status is CheckStatus.UNKNOWN}
    assert failing(health) == {"redis"}
    assert unknown >= {"evaluation_lag", "last_sweep", "stream_memory", "workers_evaluate"}
    assert "dead_letters" not in unknown

    away = scene.settings.model_copy(update={"database_url": "sqlite:////nowhere/at/all.db"})
    engine = open_engine(away)
    try:
        health = take_snapshot(away, engine, scene.process.vault)
    finally:
        engine.dispose()
    assert "database" in failing(health)
    assert health.redis_fault is None and health.memory is not None
