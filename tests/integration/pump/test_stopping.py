"""A pump ends when it is told to, also when what it talks to is away, and when its stop hangs."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine

from shared.settings import Settings
from tests.integration.processes import dispatcher_command, running, wait_until

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

HANGING = """
import sys
from dispatcher.pump import pump
from shared.settings import load_settings
pump.STOP_SECONDS = 0.5
pump.Pump.stop = lambda self: pump.threading.Event().wait()
pump.run(load_settings())
"""


def _wait_started(log: Path) -> None:
    wait_until(lambda: b"dispatcher.started" in log.read_bytes(), "start")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(settings: Settings, engine: Engine, tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log"
    with running(dispatcher_command(), settings, log) as process:
        _wait_started(log)
        process.send_signal(number)
        assert process.wait(60) == 0
    assert b"Traceback" not in log.read_bytes()


def test_a_signal_ends_it_while_redis_is_away(settings: Settings, engine: Engine, tmp_path: Path) -> None:
    log = tmp_path / "log"
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with running(dispatcher_command(), away, log) as process:
        wait_until(lambda: b"pump.waiting" in log.read_bytes(), "complaint")
        process.terminate()
        assert process.wait(60) == 0


def test_a_stop_that_hangs_ends_the_process_and_says_where(settings: Settings, engine: Engine, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running([sys.executable, "-c", HANGING], settings, log) as process:
        _wait_started(log)
        process.terminate()
        assert process.wait(60) == 1
    assert b"Timeout (0:00:00.500000)!" in log.read_bytes()


def test_a_second_signal_ends_a_stop_at_once(settings: Settings, engine: Engine, tmp_path: Path) -> None:
    log = tmp_path / "log"
    patient = HANGING.replace("0.5", "600").replace("lambda self:", "lambda self: print('stopping', flush=True) or")
    with running([sys.executable, "-c", patient], settings, log) as process:
        _wait_started(log)
        process.terminate()
        wait_until(lambda: b"stopping" in log.read_bytes(), "stop")
        process.terminate()
        assert process.wait(60) == -signal.SIGTERM
