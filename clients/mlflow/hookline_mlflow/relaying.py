"""The relay of each process: a thread, of which one in all processes has the lease and works.

A process gets it with its first store, and again after a fork, since threads stay with the parent.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from hookline.client import Client
from hookline.relay import LEASE_SECONDS, Relay

from hookline_mlflow.completion import Facts
from hookline_mlflow.recorder import TABLE

if TYPE_CHECKING:
    import sqlalchemy as sa

    from hookline_mlflow.settings import Settings

log = logging.getLogger("hookline")
TIMEOUT_SECONDS = 10.0
"""How long one request may take: well below the lease."""
EXIT_SECONDS = 5.0
"""How long the end of a process is held up by what waits."""
_ANEW_SECONDS = 60.0
_lock = threading.Lock()
_threads: dict[str, RelayThread] = {}


class FactRelay(Relay):
    """Relays the outbox of an MLflow to Hookline."""

    def __init__(self, engine: sa.Engine, client: Client, settings: Settings, *, every_seconds: float = 0.5) -> None:
        super().__init__(engine, client, name=TABLE, every_seconds=every_seconds, lease_seconds=LEASE_SECONDS)
        self.rows = Facts(engine, settings)

    def finish(self, seconds: float) -> None:
        """Send what waits, for so long at most, and give the lease up. Raises as `step` does."""
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until and self.step():
                pass
        finally:
            self._give_up()


class RelayThread:
    """A relay in a thread of this process."""

    def __init__(self, engine: sa.Engine, settings: Settings) -> None:
        self.process = os.getpid()
        self._client = Client(timeout_seconds=TIMEOUT_SECONDS)
        self._relay = FactRelay(engine, self._client, settings)
        self._thread = threading.Thread(target=self._run, name="hookline-relay", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        is_running = True
        while is_running:
            try:
                self._relay.run()
                is_running = False
            except Exception:  # a fault of ours must not end it for good
                log.exception("the relay of MLflow's events begins anew")
                time.sleep(_ANEW_SECONDS)
        try:
            self._relay.finish(EXIT_SECONDS)
        except Exception as exc:
            log.info("events of MLflow's wait for the next relay: %s", exc)

    def end(self) -> None:
        """Send what waits, for a few seconds at most, and give the lease up."""
        self._relay.stop()
        self._thread.join(EXIT_SECONDS + 1)
        if not self._thread.is_alive():
            self._client.close()


def ensure(engine: sa.Engine, settings: Settings) -> None:
    """Have this process relay the outbox in a database. Raises InvalidConfiguration."""
    place = engine.url.render_as_string(hide_password=False)
    running = _threads.get(place)
    if running is not None and running.process == os.getpid():
        return
    with _lock:
        running = _threads.get(place)
        if running is None or running.process != os.getpid():
            _threads[place] = RelayThread(engine, settings)


def running() -> list[str]:
    """The databases whose outboxes this process relays, without their passwords."""
    from sqlalchemy.engine import make_url

    return [str(make_url(place)) for place, one in _threads.items() if one.process == os.getpid()]


def end_all() -> None:
    """End what this process relays, as its own end does."""
    for place, thread in list(_threads.items()):
        if thread.process == os.getpid():
            thread.end()
        _threads.pop(place, None)


atexit.register(end_all)
