"""The outbox on PostgreSQL with a real Hookline: relays that are killed while writers write."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from hookline import events, outbox
from hookline.relay import Rows

from tests.integration.client.test_trainings import in_streams
from tests.integration.processes import wait_until
from tests.sdk.conftest import Hookline
from tests.servers import fresh_database, postgres_server


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    with postgres_server() as server:
        yield fresh_database(server)


def test_killed_relays_lose_and_double_nothing_while_writers_write(
    hookline: Hookline, variables: dict[str, str], database_url: str
) -> None:
    engine = sa.create_engine(database_url)
    outbox.create(engine)

    def write(run: str) -> None:
        for step in range(150):
            one = events.run_metrics(
                project="m", entity="acme", run=run, step=step, metrics={"x": 1}, id=f"{run}-{step}", source="/backend"
            )
            with engine.connect() as connection, connection.begin() as transaction:
                outbox.add(connection, one)
                if step % 10 == 9:
                    transaction.rollback()

    writers = [threading.Thread(target=write, args=(f"r{number}",)) for number in range(3)]
    for writer in writers:
        writer.start()
    command = [sys.executable, "-m", "hookline", "outbox", "relay", "--database-url", database_url, "--every", "0.02"]
    for _ in range(2):
        before = len(in_streams(hookline))
        relay = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL)
        wait_until(lambda before=before: len(in_streams(hookline)) > before or Rows(engine).waiting() == 0, "events")  # type: ignore[misc]
        relay.kill()
        relay.wait()
        with engine.begin() as connection:  # as after 30 s
            connection.execute(sa.text("UPDATE hookline_outbox_lease SET holder = ''"))
    for writer in writers:
        writer.join()
    subprocess.run([*command, "--once"], env=variables, check=True, timeout=100, stdout=subprocess.DEVNULL)
    assert Rows(engine).waiting() == 0 and Rows(engine).parked() == []
    engine.dispose()
    for number in range(3):
        found = dict.fromkeys(
            one["data"]["step"] for one in in_streams(hookline) if one["data"]["run"]["id"] == f"r{number}"
        )
        assert list(found) == [step for step in range(150) if step % 10 != 9]
