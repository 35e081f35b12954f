"""Steady events to healthy endpoints, and more of a kind where a hurt asks for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx

from tests.integration.receiver import Answer, Received
from tests.monitoring.scene import ADMIN_KEY, Scene
from tests.monitoring.traffic import BASE, alias

STEADY = "steady"
STEADY_RATE = 20.0
"""Events a second."""
TICK_SECONDS = 0.25
WAIT_SECONDS = 5
WEBHOOKS: dict[str, dict[str, Any]] = {
    STEADY: {},
    "refusing": {},
    "gone": {},
    "lost": {},
    "broken": {"circuit_failures": 3, "circuit_cool_off_seconds": 5, "circuit_cool_off_cap_seconds": 5},
    "sealed": {},
}
"""Each on the receiver's path of its name, with its policy; one automation calls each on the alias of its name."""
STATUS = {"refusing": 422, "gone": 410, "broken": 503}
SECRET = "SEALED_WITH"
SECRET_VALUE = "whsec_" + "c2VjcmV0LW9mLXRoZS1kYXkh" * 2


class Traffic:
    """Publishes from a thread of its own; the receiver's threads ask `answer`."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._rates: dict[str, float] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._failing: frozenset[str] = frozenset()
        """The endpoints that answer as `STATUS` has it."""
        self._headers: dict[str, str] = {}

    def start(self, rate: float) -> None:
        """Begin with so many events a second."""
        self._rates = {STEADY: rate}
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._ending.set()
        self._thread.join(timeout=4 * WAIT_SECONDS)

    @contextmanager
    def at(self, **rates: float) -> Iterator[None]:
        """Publish other numbers of events a second meanwhile, by alias."""
        before = self._rates
        self._rates = before | rates
        try:
            yield
        finally:
            self._rates = {name: before.get(name, 0) if name in rates else now for name, now in self._rates.items()}

    @contextmanager
    def failing(self, name: str) -> Iterator[None]:
        """Have an endpoint fail meanwhile, and a delivery a second to it."""
        self._failing |= {name}
        try:
            with self.at(**{name: 1}):
                yield
        finally:
            self._failing -= {name}

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Have all endpoints close the connection behind each answer meanwhile: what is kept would serve the next."""
        self._headers = {"Connection": "close"}
        try:
            yield
        finally:
            self._headers = {}

    def answer(self, request: Received) -> Answer:
        """What the receiver does."""
        way = request.path.strip("/")
        return Answer(STATUS[way] if way in self._failing else 200, headers=self._headers)

    def _run(self) -> None:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        owed: dict[str, float] = {}
        last = time.monotonic()
        with httpx.Client(
            base_url=self._scene.settings.url, headers=headers, timeout=WAIT_SECONDS, trust_env=False
        ) as api:
            while not self._ending.wait(TICK_SECONDS):
                now = time.monotonic()
                passed, last = min(now - last, 2.0), now  # what could not be published is not made up for
                events = []
                for name, rate in self._rates.items():
                    owing = owed.get(name, 0) + rate * passed
                    events += [alias(name) for _ in range(int(owing))]
                    owed[name] = owing % 1
                self._scene.receiver.requests.clear()
                if events:
                    with suppress(httpx.TransportError):  # it is among the hurts
                        api.post("/v1/events", json=events)


def define(scene: Scene) -> None:
    """The webhooks, an automation for each, and the secret that one of them signs with."""
    with scene.api() as api:
        api.put(BASE, json={}).raise_for_status()
        api.put(f"{BASE}/secrets/{SECRET}", json={"value": SECRET_VALUE}).raise_for_status()
        for name, policy in WEBHOOKS.items():
            body: dict[str, Any] = {"name": name, "url": f"{scene.receiver.url}/{name}", "policy": policy}
            if name == "sealed":
                body["signing_secret"] = SECRET
            api.post(f"{BASE}/webhooks", json=body).raise_for_status()
            action = {"webhook": name, "payload": {"event": "$event_id"}}
            automation = {"name": name, "event": "ADD_ARTIFACT_ALIAS", "filter": {"alias": name}, "action": action}
            api.post(f"{BASE}/automations", json=automation).raise_for_status()
