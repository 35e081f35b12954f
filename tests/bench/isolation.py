"""What twenty hostile endpoints under load cost a healthy one: its p99 beside them over its p99 without them.

Their circuits never open here, which would end most of the load: what is left to protect the healthy one are places,
lanes and threads. Each round measures quiet and beside them in turn, in the same running service.
"""

from __future__ import annotations

import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.events import ENTITY, EVENT_TYPE, make_events
from tests.bench.figures import Figure
from tests.bench.hostiles import hostile_endpoints
from tests.bench.receiver import receiver
from tests.bench.rounds import Latency, measure_latency
from tests.bench.system import Hookline, running_hookline
from tests.servers import fresh_database, postgres_server, valkey_server

if TYPE_CHECKING:
    from collections.abc import Mapping

AREA = "isolation"
PROJECT = "wandb-registry-hostile"
HOSTILE_EVENTS_PER_SECOND = 4.0
"""Each fires a delivery to every hostile endpoint."""
PER_SECOND = 40.0
EVENTS = 500
QUICK_EVENTS = 60
TIMEOUT_SECONDS = 5.0
WARM_SECONDS = 8.0
"""Longer than a time-out: all that can be in flight to hostile endpoints is."""
RATIO = 2.0


def measure(rounds: int, quick: bool) -> list[Figure]:
    """The healthy endpoint's latency, quiet and beside the hostile ones."""
    count = QUICK_EVENTS if quick else EVENTS
    quiet: list[Latency] = []
    beside: list[Latency] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookline-bench-")))
        endpoint = stack.enter_context(receiver())
        hookline = stack.enter_context(
            running_hookline(
                redis_url=stack.enter_context(valkey_server(append_only=True)),
                database_url=fresh_database(stack.enter_context(postgres_server(durable=True))),
                endpoint=endpoint.url,
                folder=folder,
            )
        )
        crowd = Crowd(hookline, stack.enter_context(hostile_endpoints()))
        healthy = Healthy(hookline)
        for number in range(rounds):
            quiet.append(
                measure_latency(healthy, endpoint, label=f"quiet-{number}", count=count, per_second=PER_SECOND)
            )
            with crowd.under_load(f"hostile-{number}"):
                beside.append(
                    measure_latency(healthy, endpoint, label=f"beside-{number}", count=count, per_second=PER_SECOND)
                )
    return _figures(quiet, beside, len(crowd.webhooks))


def _figures(quiet: list[Latency], beside: list[Latency], hostile: int) -> list[Figure]:
    against = "the same without them"
    faults = float(sum(one.accounts.faults for one in (*quiet, *beside)))
    return [
        Figure(
            AREA,
            f"p99 beside {hostile} hostile endpoints",
            "ms",
            tuple(one.p99_ms for one in beside),
            against=against,
            reference=tuple(one.p99_ms for one in quiet),
            ratio_at_most=RATIO,
        ),
        Figure(
            AREA,
            "the same, p50",
            "ms",
            tuple(one.p50_ms for one in beside),
            against=against,
            reference=tuple(one.p50_ms for one in quiet),
        ),
        Figure(AREA, "lost, doubled or invented", "deliveries", (faults,), at_most=0, promise=True),
    ]


class Healthy:
    """The running service, as far as the healthy endpoint is concerned."""

    def __init__(self, hookline: Hookline) -> None:
        self.name = "healthy"
        self._hookline = hookline
        self.release = hookline.release
        self.publish = hookline.publish
        self.cpu_seconds = hookline.cpu_seconds
        self.require_alive = hookline.require_alive

    def recorded(self) -> int:
        """Deliveries to it that the database has as delivered."""
        return self._hookline.recorded_of("deploy")


class Crowd:
    """The hostile endpoints' webhooks and automations, and the load on them."""

    def __init__(self, hookline: Hookline, urls: Mapping[str, str]) -> None:
        self._hookline = hookline
        self.webhooks = {f"hostile-{number}": url for number, url in enumerate(urls.values())}
        policy = {"timeout_seconds": TIMEOUT_SECONDS, "circuit_failures": 0}
        base = f"/v1/entities/{ENTITY}"
        self._ids = []
        for name, url in self.webhooks.items():
            made = hookline.call("POST", f"{base}/webhooks", {"name": name, "url": url, "policy": policy})
            self._ids.append(made["id"])
            hookline.call("POST", f"{base}/automations", _automation(name))

    def under_load(self, label: str) -> Load:
        """A load on all of them, for the time of a `with`."""
        return Load(self._hookline, label, self._ids)


class Load:
    """Publishes events that fire a delivery to each hostile endpoint; afterwards nothing more is sent to them."""

    def __init__(self, hookline: Hookline, label: str, webhook_ids: list[str]) -> None:
        self._hookline = hookline
        self._label = label
        self._webhook_ids = webhook_ids
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)

    def __enter__(self) -> None:
        self._pause(paused=False)
        self._thread.start()
        time.sleep(WARM_SECONDS)

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._thread.join()
        self._pause(paused=True)
        time.sleep(TIMEOUT_SECONDS + 1)

    def _pause(self, *, paused: bool) -> None:
        for webhook_id in self._webhook_ids:
            self._hookline.call("PATCH", f"/v1/entities/{ENTITY}/webhooks/{webhook_id}", {"paused": paused})

    def _publish(self) -> None:
        number = 0
        while not self._over.wait(1 / HOSTILE_EVENTS_PER_SECOND):
            [event] = make_events(f"{self._label}-{number}", 1)
            event["data"]["project"] = PROJECT
            self._hookline.release([event])
            number += 1


def _automation(webhook: str) -> dict[str, Any]:
    return {
        "name": f"on-{webhook}",
        "scope": {"project": PROJECT},
        "event": EVENT_TYPE,
        "action": {"webhook": webhook, "payload": {"event_id": "${event_id}"}},
    }
