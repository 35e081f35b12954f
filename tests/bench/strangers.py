"""What a member of one entity can do to all others: their events' and `/readyz`'s p99 beside it over p99 without it.

Each round measures quiet and beside each attack in turn, in the same running service. Memory is the largest resident
size of the API and of any worker.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from tests.bench.attacks import ATTACKS, BASE, ENTITY, PROJECT, TEXT, WEBHOOK, costly_filter, event
from tests.bench.events import EVENT_TYPE
from tests.bench.figures import Figure
from tests.bench.isolation import Healthy
from tests.bench.processes import ROOT
from tests.bench.receiver import receiver
from tests.bench.rounds import Latency, measure_latency
from tests.bench.system import Hookline, running_hookline
from tests.servers import fresh_database, postgres_server, valkey_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

AREA = "strangers"
PER_SECOND = 40.0
EVENTS = 400
QUICK_EVENTS = 60
WARM_SECONDS = 3.0
CALM_SECONDS = 3.0
READY_SECONDS = 0.05
"""How often `/readyz` is asked."""
MEMORY_SECONDS = 0.1
RATIO, MEMORY_RATIO = 2.0, 1.5
PARTITIONS = 16
DEFINITIONS = 1000
FANNED = "theirs-fanned"
PATTERNED = "theirs-patterned"
LARGE = "theirs-large"


@dataclass(frozen=True, slots=True)
class Way:
    """A way to do one's worst: a process over HTTP, or events that the platform publishes of one's entity."""

    name: str
    events: Callable[[int], list[dict[str, Any]]] | None = None
    """The events of a second, by its number."""


def _patterned(_second: int) -> list[dict[str, Any]]:
    return [event(number, {"k": TEXT}, project=PATTERNED) for number in range(PARTITIONS)]


def _large(second: int) -> list[dict[str, Any]]:
    return [event(second % PARTITIONS, {"k": "x" * 1_000_000}, project=LARGE)]


def _fanned(second: int) -> list[dict[str, Any]]:
    return [event(second % PARTITIONS, {}, project=FANNED)]


WAYS = (
    Way("patterns", _patterned),
    Way("giant payloads", _large),
    Way("a thousand definitions", _fanned),
    *(Way(name) for name in ATTACKS),
)


@dataclass(slots=True)
class Beside:
    """What others felt for the time of one measurement."""

    latency: Latency
    ready_p99_ms: float
    memory: dict[str, float]
    """The most bytes by role."""


@dataclass(slots=True)
class Watch:
    """Asks `/readyz` and looks at memory until it is told to stop."""

    url: str
    service: Hookline
    ready_ms: list[float] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[None]:
        threads = [threading.Thread(target=watch, daemon=True) for watch in (self._ask, self._look)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as client:
            while not self._over.wait(READY_SECONDS):
                began = time.perf_counter()
                client.get("/readyz").raise_for_status()
                self.ready_ms.append((time.perf_counter() - began) * 1000)

    def _look(self) -> None:
        while not self._over.wait(MEMORY_SECONDS):
            for process in self.service.processes():
                try:
                    role, size = _role(process), float(process.memory_info().rss)
                except psutil.Error:
                    continue
                if role is not None:
                    self.memory[role] = max(self.memory.get(role, 0.0), size)


def _role(process: psutil.Process) -> str | None:
    words = process.cmdline()
    if "dispatcher.cli" in words and "api" in words:
        return "API"
    return "worker" if "celery" in words else None


def measure(rounds: int, quick: bool) -> list[Figure]:
    """Others' events, `/readyz` and memory, quiet and beside each way."""
    count = QUICK_EVENTS if quick else EVENTS
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookline-bench-")))
        endpoint, sink = stack.enter_context(receiver()), stack.enter_context(receiver())
        hookline = stack.enter_context(
            running_hookline(
                redis_url=stack.enter_context(valkey_server(append_only=True)),
                database_url=fresh_database(stack.enter_context(postgres_server(durable=True))),
                endpoint=endpoint.url,
                folder=folder,
            )
        )
        key = _settle(hookline, sink.url)
        healthy = Healthy(hookline)

        def one(label: str) -> Beside:
            watch = Watch(hookline.url, hookline)
            with watch.watching():
                latency = measure_latency(healthy, endpoint, label=label, count=count, per_second=PER_SECOND)
            percentiles = statistics.quantiles(watch.ready_ms, n=100, method="inclusive")
            return Beside(latency, percentiles[98], watch.memory)

        calm, beside = [one("first")], {way.name: list[Beside]() for way in WAYS}
        for number in range(rounds):
            for place, way in enumerate(WAYS):
                calm.append(one(f"quiet-{number}-{place}"))
                with _attacked(hookline, way, key):
                    beside[way.name].append(one(f"beside-{number}-{place}"))
    return _figures(calm, beside)


def _settle(hookline: Hookline, sink: str) -> str:
    """Define what the member of another entity has; its key."""
    hookline.call("PUT", BASE, {})
    hookline.call("POST", f"{BASE}/webhooks", {"name": WEBHOOK, "url": sink, "policy": {"rate_limit": "20/s"}})
    action = {"webhook": WEBHOOK, "payload": dict.fromkeys("abcd", "${artifact_metadata.k}")}
    definitions = [
        {"name": f"large {n}", "event": EVENT_TYPE, "scope": {"project": LARGE}, "action": action} for n in range(100)
    ]
    definitions += [
        {
            "name": f"patterned {n}",
            "event": EVENT_TYPE,
            "scope": {"project": PATTERNED},
            "filter": costly_filter(),
            "action": {"no_op": True},
        }
        for n in range(10)
    ]
    definitions += [
        {
            "name": f"fanned {n}",
            "event": EVENT_TYPE,
            "scope": {"project": FANNED},
            "filter": {"alias": {"$regex": f"^(prod|stage-{n})"}},
            "description": "x" * 4000,
            "action": {"no_op": True},
        }
        for n in range(DEFINITIONS - len(definitions))
    ]
    hookline.call("POST", f"{BASE}/apply", {"automations": definitions})
    hookline.call("PUT", f"{BASE}/projects/{PROJECT}", {})
    return str(hookline.call("POST", "/v1/keys", {"name": "mallory", "entity": ENTITY, "role": "admin"})["key"])


@contextmanager
def _attacked(hookline: Hookline, way: Way, key: str) -> Iterator[None]:
    """Somebody does their worst in this way, for the time of a `with`; then all is calm again."""
    over = threading.Event()
    with ExitStack() as stack:
        if way.events is None:
            command = [sys.executable, "-m", "tests.bench.attacks", way.name, hookline.url, key]
            process = stack.enter_context(subprocess.Popen(command, cwd=ROOT))
            stack.callback(process.kill)
        else:
            publisher = threading.Thread(target=_publish, args=(hookline, way.events, over), daemon=True)
            publisher.start()
            stack.callback(publisher.join)
        stack.callback(over.set)
        time.sleep(WARM_SECONDS)
        yield
    time.sleep(CALM_SECONDS)


def _publish(hookline: Hookline, events: Callable[[int], list[dict[str, Any]]], over: threading.Event) -> None:
    second = 0
    while not over.wait(1.0):
        hookline.release(events(second))
        second += 1


def _figures(calm: Sequence[Beside], beside: dict[str, list[Beside]]) -> list[Figure]:
    quiet = "quiet, in the same run"
    figures = []
    for name, found in beside.items():
        figures += [
            Figure(
                AREA,
                f"p99 of others' events beside {name}",
                "ms",
                tuple(one.latency.p99_ms for one in found),
                against=quiet,
                reference=tuple(one.latency.p99_ms for one in calm),
                ratio_at_most=RATIO,
            ),
            Figure(
                AREA,
                f"p99 of /readyz beside {name}",
                "ms",
                tuple(one.ready_p99_ms for one in found),
                against=quiet,
                reference=tuple(one.ready_p99_ms for one in calm),
                ratio_at_most=RATIO,
            ),
            *(
                Figure(
                    AREA,
                    f"memory of the {role} beside {name}",
                    "MiB",
                    tuple(one.memory[role] / (1 << 20) for one in found),
                    against="before any attack",
                    reference=(calm[0].memory[role] / (1 << 20),),
                    ratio_at_most=MEMORY_RATIO,
                )
                for role in ("API", "worker")
            ),
        ]
    faults = float(
        sum(one.latency.accounts.faults for one in (*calm, *(o for found in beside.values() for o in found)))
    )
    return [*figures, Figure(AREA, "lost, doubled or invented", "deliveries", (faults,), at_most=0, promise=True)]
