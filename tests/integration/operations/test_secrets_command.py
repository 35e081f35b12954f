"""`celery -A worker secrets rotate`: everything under the newest key, whatever is written meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import Engine, insert, select, update

from shared.settings import Settings
from shared.storage.accounts.users import insert_user
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.entities import find_entity, insert_entity
from shared.storage.definitions.revisions import current_revision_value
from shared.storage.schema.tables import audit_log, idempotency_keys, secrets
from shared.vault import SecretUnreadable, Vault
from tests.integration.processes import ROOT, environment
from worker.commands.secrets import secrets as command
from worker.operations import key_rotation
from worker.operations.key_rotation import rotate

OLD, NEW, LOST = (Fernet.generate_key().decode() for _ in range(3))
NOW = datetime.now(UTC)


@pytest.fixture
def storage(engine: Engine) -> Engine:
    """A database with the entities `acme` and `zeta` and a user."""
    with write_transaction(engine) as connection:
        for name in ("acme", "zeta"):
            insert_entity(connection, name=name, kind="team", parent_id=None, now=NOW)
        insert_user(connection, name="alice", email="", is_admin=False, now=NOW)
    return engine


def store(engine: Engine, key: str, *names: str, entity: str = "acme") -> None:
    """Secrets under a key; each has its own name as its value."""
    with write_transaction(engine) as connection:
        found = find_entity(connection, entity)
        assert found is not None
        rows = [
            {
                "entity_id": found.id,
                "name": name,
                "ciphertext": Vault([key]).encrypt(name),
                "revision": 1,
                "created_at": NOW,
                "updated_at": NOW,
            }
            for name in names
        ]
        connection.execute(insert(secrets), rows)


def keep_answers(engine: Engine, key: str, *names: str) -> None:
    """Kept answers under a key, and one request that is underway."""
    with write_transaction(engine) as connection:
        row = {"user_id": 1, "request_digest": b"x" * 32, "created_at": NOW}
        bodies = {name: Vault([key]).encrypt(name) for name in names} | {"underway": None}
        connection.execute(insert(idempotency_keys), [{**row, "key": n, "body": b} for n, b in bodies.items()])


def values(engine: Engine, *keys: str) -> dict[str, str]:
    """What a vault with these keys alone reads, by name."""
    vault = Vault(list(keys))
    with read_transaction(engine) as connection:
        rows = [*connection.execute(select(secrets.c.name, secrets.c.ciphertext))]
        kept = idempotency_keys.c.body.is_not(None)
        rows += connection.execute(select(idempotency_keys.c.key, idempotency_keys.c.body).where(kept))
    return {name: vault.decrypt(stored) for name, stored in rows}


def run(engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    """The command on this storage with both keys."""
    own = settings.model_copy(update={"secret_keys": SecretStr(f"{NEW},{OLD}")})

    @contextmanager
    def opened() -> Iterator[tuple[Settings, Engine]]:
        yield own, engine

    monkeypatch.setattr("worker.commands.secrets.opened", opened)
    return CliRunner().invoke(command, ["rotate", *arguments])


def test_all_is_brought_under_the_newest_key_in_batches_and_once(
    storage: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_rotation, "BATCH", 3)
    store(storage, OLD, *(f"OLD_{number}" for number in range(7)))
    store(storage, NEW, "NEW", entity="zeta")
    keep_answers(storage, OLD, *(f"answer {number}" for number in range(4)))
    with read_transaction(storage) as connection:
        before = current_revision_value(connection)

    first = json.loads(run(storage, settings, monkeypatch, "--json").stdout)
    read = values(storage, NEW)
    again = run(storage, settings, monkeypatch)

    answers = {"rotated": 4, "current": 4, "stale": 0, "unreadable": 0}
    assert first == {
        "keys": 2,
        "secrets": {"rotated": 7, "current": 8, "stale": 0, "unreadable": []},
        "answers": answers,
        "old_keys_removable": True,
    }
    assert {name: value for name, value in read.items() if name != value} == {}
    assert len(read) == 12
    assert again.exit_code == 0
    assert again.stdout.splitlines() == [
        "rotated 0 secrets and 0 kept answers; under the newest key are 8 secrets and 4 answers",
        "the older keys can be removed, once every process runs with the newest one in front",
    ]
    with read_transaction(storage) as connection:
        assert current_revision_value(connection) == before
        (change,) = connection.execute(select(audit_log)).all()
        assert set(connection.scalars(select(secrets.c.updated_at))) == {NOW}
    assert (change.action, change.detail["rotated"]) == ("secrets.rotate", 11)


def test_what_no_key_reads_is_named_and_the_rest_is_done(
    storage: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(storage, OLD, "FINE")
    store(storage, LOST, "GONE", entity="zeta")
    keep_answers(storage, LOST, "answer")

    result = run(storage, settings, monkeypatch, "--json")
    told = run(storage, settings, monkeypatch)

    done = json.loads(result.stdout)
    assert (result.exit_code, told.exit_code) == (1, 1)
    assert done["secrets"]["unreadable"] == [{"entity": "zeta", "name": "GONE"}]
    assert done["answers"]["unreadable"] == 1
    assert not done["old_keys_removable"]
    (fault,) = result.stderr.splitlines()
    assert fault.startswith("hookline: zeta/GONE can't be read with any key of HOOKLINE_SECRET_KEYS")
    assert "can be removed" not in told.stdout
    with pytest.raises(SecretUnreadable):
        values(storage, NEW)
    assert values(storage, NEW, LOST)["FINE"] == "FINE"


def test_with_one_key_there_is_nothing_to_remove(storage: Engine) -> None:
    store(storage, NEW, "ONE")
    done = rotate(storage, Vault([NEW]))
    assert done.lines()[-1] == "there is one key only: nothing to remove"
    with read_transaction(storage) as connection:
        assert connection.execute(select(audit_log)).all() == []


def test_what_is_written_meanwhile_is_never_lost_and_brought_under_the_newest_key_too(
    storage: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_rotation, "BATCH", 5)
    names = [f"SECRET_{number}" for number in range(20)]
    store(storage, OLD, *names)
    stop, written = threading.Event(), dict[str, str]()

    def write() -> None:
        """Another process, which still has the old key in front, replaces values all the time."""
        number = 0
        while not stop.is_set():
            name = names[number % len(names)]
            with write_transaction(storage) as connection:
                stored = Vault([OLD, NEW]).encrypt(f"{name} {number}")
                connection.execute(update(secrets).where(secrets.c.name == name).values(ciphertext=stored))
            written[name] = f"{name} {number}"
            number += 1
            stop.wait(0.002)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            rotate(storage, Vault([NEW, OLD]))
    finally:
        stop.set()
        writer.join()

    assert written
    assert values(storage, NEW, OLD) == {name: written.get(name, name) for name in names}
    done = rotate(storage, Vault([NEW, OLD]))
    assert done.old_keys_removable
    assert values(storage, NEW) == {name: written.get(name, name) for name in names}


def test_values_that_stay_under_an_older_key_are_told(storage: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    store(storage, OLD, "ONE")
    vault = Vault([NEW, OLD])
    encrypt_anew = vault.rotate

    def overtaken(stored: bytes) -> bytes:
        with write_transaction(storage) as connection:
            connection.execute(update(secrets).values(ciphertext=Vault([OLD]).encrypt("ONE")))
        return encrypt_anew(stored)

    monkeypatch.setattr(vault, "rotate", overtaken)
    done = rotate(storage, vault)

    assert (done.secrets.rotated, done.secrets.stale, done.old_keys_removable) == (0, 1, False)
    assert "still encrypted with an older key" in done.faults()[0]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_real_command_rotates_and_the_old_key_can_go(storage: Engine, settings: Settings) -> None:
    store(storage, OLD, "ONE", "TWO")

    def celery(keys: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        own = settings.model_copy(update={"secret_keys": SecretStr(keys)})
        command = [sys.executable, "-m", "celery", "-A", "worker", "secrets", "rotate", *arguments]
        return subprocess.run(
            command, env=environment(own), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )

    done = celery(f"{NEW},{OLD}", "--json")
    alone = celery(NEW)
    wrong: Any = celery(LOST)

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["secrets"]["rotated"] == 2
    assert alone.returncode == 0
    assert wrong.returncode == 1
    assert [line.split()[1] for line in wrong.stderr.splitlines()] == ["acme/ONE", "acme/TWO"]
    assert not any(key in done.stdout + alone.stdout + wrong.stderr for key in (OLD, NEW, LOST))
