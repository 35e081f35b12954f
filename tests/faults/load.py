"""A platform backend under fire: publishes at a rate, and each batch again until it is accepted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.authority import TRUSTS_NOBODY

BATCH = 100
RETRY_SECONDS = 0.1
PATIENCE_SECONDS = 180.0


def drill_event(number: int, projects: int = 1) -> dict[str, Any]:
    """The event of this number; its collection spreads them over all partitions, and they go to projects in turn."""
    return {
        "specversion": "1.0",
        "id": f"event-{number}",
        "source": "/drill",
        "type": "ADD_ARTIFACT_ALIAS",
        "data": {
            "entity": "acme",
            "project": project_name(number % projects),
            "collection": {"name": f"c{number % 97}", "type": "model"},
            "artifact": {"id": f"a{number}", "version": "v1"},
            "alias": "prod",
        },
    }


def project_name(number: int) -> str:
    """The name of the project with this number."""
    return f"models-{number}" if number else "models"


class Load:
    """Publishes `count` events in a thread of its own; `accepted` has when each was answered with 202."""

    def __init__(self, url: str, key: str, count: int, *, rate: float, projects: int = 1) -> None:
        self.accepted: dict[str, float] = {}
        self._url = url
        self._key = key
        self._count = count
        self._rate = rate
        self._projects = projects
        self._failure: BaseException | None = None
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether there is more to publish."""
        return self._thread.is_alive()

    def finish(self) -> None:
        """Publish nothing more than what is underway."""
        self._enough.set()

    def join(self) -> None:
        """Wait for the end. Raises what ended it early."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._publish()
        except BaseException as exc:
            self._failure = exc

    def _publish(self) -> None:
        headers = {"Authorization": f"Bearer {self._key}"}
        begin = time.monotonic()
        with httpx.Client(
            base_url=self._url, headers=headers, timeout=15, trust_env=False, verify=TRUSTS_NOBODY
        ) as api:
            for first in range(0, self._count, BATCH):
                if self._enough.wait(max(0.0, begin + first / self._rate - time.monotonic())):
                    return
                numbers = range(first, min(first + BATCH, self._count))
                events = [drill_event(number, self._projects) for number in numbers]
                _insist(lambda events=events: accepted(api, events))  # type: ignore[misc]
                now = time.monotonic()
                self.accepted |= {event["id"]: now for event in events}


def accepted(api: httpx.Client, events: list[Any]) -> bool:
    """Publish a batch once; whether it was taken. Raises HTTPStatusError when trying again would not help."""
    try:
        answer = api.post("/v1/events", json=events)
    except httpx.TransportError:
        return False
    if answer.status_code in (500, 503):
        return False
    answer.raise_for_status()
    return True


def _insist(attempt: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not attempt():
        assert time.monotonic() < deadline, f"a batch was not accepted within {PATIENCE_SECONDS:g} s"
        time.sleep(RETRY_SECONDS)
