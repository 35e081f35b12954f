"""The outbox: events of the caller's transaction, relayed once and in order, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

sa = pytest.importorskip("sqlalchemy")

import hookline  # noqa: E402
from hookline import events, outbox  # noqa: E402
from hookline.cli import main  # noqa: E402
from hookline.errors import InvalidEvent, Refused, Unreachable  # noqa: E402
from hookline.relay import Relay, Rows  # noqa: E402

Wait = Callable[..., None]
NOW = datetime(2026, 11, 23, 9, tzinfo=timezone.utc)


def event(number: int) -> events.Event:
    return events.run_metrics(project="m", run="r", step=number, metrics={"loss": 0.5}, id=f"e{number}")


def ids(count: int, first: int = 0) -> list[str]:
    return [f"e{number}" for number in range(first, first + count)]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'backend.db'}"


@pytest.fixture
def engine(configured: Any, url: str) -> Iterator[Any]:
    engine = sa.create_engine(url)
    outbox.create(engine)
    yield engine
    engine.dispose()


_clients: list[hookline.Client] = []


@pytest.fixture(autouse=True)
def _clients_are_closed() -> Iterator[None]:
    yield
    while _clients:
        _clients.pop().close()


def relay(engine: Any, **options: Any) -> Relay:
    _clients.append(hookline.Client(timeout_seconds=5))
    return Relay(engine, _clients[-1], **options)


def write(engine: Any, first: int, count: int) -> None:
    with engine.begin() as connection:
        outbox.add(connection, *(event(number) for number in range(first, first + count)))


def test_events_of_a_commit_are_relayed_and_those_of_a_rollback_are_not(configured: Any, engine: Any) -> None:
    from sqlalchemy.orm import Session

    with Session(engine) as session, session.begin():
        outbox.add(session, event(0), event(1))
    with Session(engine) as session:
        outbox.add(session, event(2))
        session.rollback()
    with Session(engine) as session, session.begin():
        outbox.add(session, event(3))
        outbox.add(session)
    assert relay(engine).drain() == 3
    assert configured.ids() == ["e0", "e1", "e3"]
    assert Rows(engine).waiting() == 0


def test_what_cannot_be_an_event_fails_the_caller_before_anything_is_written(engine: Any) -> None:
    with pytest.raises(InvalidEvent), engine.begin() as connection:
        outbox.add(connection, event(0), b"no event")
    assert Rows(engine).waiting() == 0
    with pytest.raises(ValueError, match="at least one"):
        outbox.insert()


def test_the_tables_are_part_of_the_backend_s_own(url: str) -> None:
    metadata = sa.MetaData()
    table = outbox.table(metadata, "our_outbox")
    assert set(metadata.tables) == {"our_outbox", "our_outbox_lease"} and table.name == "our_outbox"
    engine = sa.create_engine(url)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(outbox.insert({"id": "x"}, name="our_outbox"))
    assert Rows(engine, name="our_outbox").waiting() == 1
    engine.dispose()


@pytest.mark.parametrize(
    ("dialect", "type_"),
    [("mysql", "MEDIUMBLOB"), ("postgresql", "BYTEA"), ("sqlite", "BLOB")],
)
def test_an_event_of_a_mebibyte_fits_into_each_database(dialect: str, type_: str) -> None:
    from sqlalchemy.dialects import registry

    table = outbox.table(sa.MetaData())
    said = str(sa.schema.CreateTable(table).compile(dialect=registry.load(dialect)()))
    assert f"event {type_} NOT NULL" in said


def test_thousands_are_relayed_in_order(configured: Any, engine: Any) -> None:
    for first in range(0, 2500, 500):
        write(engine, first, 500)
    assert relay(engine).drain() == 2500
    assert configured.ids() == ids(2500)


def test_refused_events_are_parked_with_the_reason_and_can_be_tried_again(
    configured: Any, engine: Any, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[Exception] = []
    configured.refuses = lambda event: "is odd" if event["data"]["step"] % 2 else None
    write(engine, 0, 4)
    assert relay(engine, on_error=told.append).drain() == 2
    assert isinstance(told[0], Refused) and len(told[0].refusals) == 2
    assert main(["outbox", "status", "--database-url", url]) == 1
    assert capsys.readouterr().out == (
        "0 events wait, 2 are parked\n2: data.project: is odd\n4: data.project: is odd\n"
    )
    configured.refuses = lambda event: None
    assert main(["outbox", "retry", "--database-url", url]) == 0
    assert main(["outbox", "relay", "--once", "--database-url", url]) == 0
    assert configured.ids() == ["e0", "e2", "e1", "e3"]


def test_an_outage_and_a_refused_key_keep_the_rows(configured: Any, engine: Any) -> None:
    write(engine, 0, 3)
    configured.stop()
    with pytest.raises(Unreachable):
        relay(engine).drain()
    configured.start()
    configured.script = [(403, {}, {"detail": "this key may not publish"})]
    with pytest.raises(Refused, match="may not publish"):
        relay(engine).drain()
    assert Rows(engine).waiting() == 3
    assert relay(engine).drain() == 3
    assert configured.ids() == ids(3)


def test_one_of_several_relays_works_and_another_takes_over(configured: Any, engine: Any, wait_until: Wait) -> None:
    first, second = relay(engine, lease_seconds=0.3), relay(engine, lease_seconds=0.3)
    write(engine, 0, 1)
    assert first.step() is True
    write(engine, 1, 1)
    assert second.step() is False and configured.ids() == ["e0"]
    with pytest.raises(TimeoutError):
        _beating(first, lambda: relay(engine, lease_seconds=0.3).drain())
    wait_until(second.step, "the lease of one that beats no more")
    assert configured.ids() == ["e0", "e1"]
    write(engine, 2, 1)
    assert first.step() is False, "it lost the lease, and knows"


def _beating(holder: Relay, call: Callable[[], object]) -> None:
    """Call it while the holder renews its lease."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(0.02):
            assert holder._has_lease()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        call()
    finally:
        done.set()
        thread.join()


def test_a_lower_number_that_commits_late_is_relayed(configured: Any, engine: Any) -> None:
    """As on servers that give numbers before they commit."""
    table = outbox.table(sa.MetaData())
    one = relay(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(table).values(id=10, event=event(2).to_json(), created_at=NOW))
    one.drain()
    with engine.begin() as connection:
        connection.execute(sa.insert(table).values(id=5, event=event(1).to_json(), created_at=NOW))
    one.drain()
    assert configured.ids() == ["e2", "e1"]


def start(url: str, *arguments: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "hookline",
        "outbox",
        "relay",
        "--database-url",
        url,
        "--every",
        "0.05",
        *arguments,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))


def test_kill_9_of_the_relay_and_an_outage_lose_and_double_nothing(
    configured: Any, engine: Any, url: str, wait_until: Wait
) -> None:
    written = 0
    for number in range(3):
        process = start(url)
        write(engine, written, 400)
        written += 400
        before = written - 400
        wait_until(lambda before=before: len(configured.ids()) > before, "some of them")
        process.kill()
        process.communicate()
        if number == 1:
            configured.stop()
            write(engine, written, 100)
            written += 100
            configured.start()
        with engine.begin() as connection:  # the killed one's lease ends after 30 s; tests have less patience
            connection.execute(sa.text("UPDATE hookline_outbox_lease SET holder = ''"))
    assert main(["outbox", "relay", "--once", "--database-url", url]) == 0
    assert configured.ids() == ids(written)  # what a killed one had sent was sent again, under the same ids
    assert Rows(engine).waiting() == 0


def test_sigterm_ends_a_relay_and_gives_its_lease_up(configured: Any, engine: Any, url: str, wait_until: Wait) -> None:
    process = start(url)
    write(engine, 0, 5)
    wait_until(lambda: len(configured.ids()) == 5, "events")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    write(engine, 5, 1)
    assert relay(engine).drain() == 1


def test_a_wrong_database_is_said_in_a_line_without_its_password(
    configured: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for url in (
        f"sqlite:///{tmp_path / 'empty.db'}",
        f"sqlite:///{tmp_path / 'no' / 'folder.db'}",
        "nonsense://u:s3cret@h/d",
        "",
    ):
        assert main(["outbox", "relay", "--database-url", url]) == 2
        said = capsys.readouterr().err
        assert said.startswith("hookline-agent: ") and said.count("\n") == 1 and "s3cret" not in said


def test_a_session_that_is_awaited_writes_too(configured: Any, engine: Any, url: str) -> None:
    statement = outbox.insert(event(0), event(1))
    with engine.begin() as connection:
        connection.execute(statement)
    assert relay(engine).drain() == 2
