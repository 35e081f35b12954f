"""Makes docs/pictures/ again: `make pictures`. Minutes of traffic with ups and downs, before a real Prometheus.

A webhook's endpoint fails for a while, so that its circuit opens and closes; a worker is started anew.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from deploy.grafana.pictures import Source, draw_all
from tests.integration.processes import ROOT, stop, wait_until
from tests.integration.receiver import Answer, Received
from tests.monitoring.prometheus import prometheus
from tests.monitoring.scene import Scene, answer, scene
from tests.monitoring.traffic import WEBHOOKS, alias, define, deliveries, event, every_outcome, metric, publish

PARTS = {"api": (), "pump0": (), "pump1": (), "worker0": (), "worker1": ("--pool", "prefork", "--concurrency", "2")}
RATE_INTERVAL = "10s"
OUTAGE = (0.35, 0.6)
"""When the endpoint of `regional` fails, as parts of the whole time."""
RESTART = 0.7
MIX = {"deploy": 10, "regional": 6, "flaky": 2, "limited": 1, "slow": 1, "refusing": 0.2, "silent": 0.2, "dying": 0.2}
WEBHOOKS["regional"] = {"schedule_seconds": [1, 2, 4, 8], "circuit_failures": 5, "circuit_cool_off_seconds": 5}


class Weather:
    """What part of the time is over, and how the receiver answers by it."""

    def __init__(self, seconds: float) -> None:
        self._began, self._seconds = time.time(), seconds

    @property
    def part(self) -> float:
        """0 at the beginning, 1 at the end."""
        return (time.time() - self._began) / self._seconds

    def answer(self, request: Received) -> Answer:
        """As usual, but for the outage."""
        if request.path == "/regional" and OUTAGE[0] < self.part < OUTAGE[1]:
            return Answer(503)
        time.sleep(random.expovariate(60))
        return answer(request)


def some_events(part: float) -> list[dict[str, Any]]:
    """What happens in half a second, more or less as the day goes."""
    busy = 1 + math.sin(part * 4 * math.pi) * 0.6 + random.random() * 0.3
    ways = random.choices(list(MIX), weights=list(MIX.values()), k=round(12 * busy))
    runs = [event("RUN_STATE", run={"id": f"r{random.random()}"}, state=random.choice(["failed", "finished"]))]
    step = round(part * 1e6)
    metrics = [
        metric(f"m{n}", step + random.randint(-2000, 2000), accuracy=random.random()) for n in range(round(8 * busy))
    ]
    return [*map(alias, ways), *runs, *metrics, *(event("CREATE_ARTIFACT") for _ in range(round(2 * busy)))]


def drive(running: Scene, weather: Weather) -> None:
    """Publish until the time is over; in between a worker is started anew, and what died is replayed."""
    restarted = False
    with running.api() as api:
        while weather.part < 1:
            publish(api, some_events(weather.part))
            if weather.part > RESTART and not restarted:
                restarted = True
                stop(running.parts["worker1"])
                running.start("worker1", *PARTS["worker1"], port=running.settings_of["worker1"].metrics_port)
                _replay(api)
            time.sleep(0.5)


def _replay(api: httpx.Client) -> None:
    for one in deliveries(api, status="dead")[:10]:
        api.post(f"/v1/entities/acme/deliveries/{one['id']}/replay")


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.monitoring.pictures", description=__doc__)
    parser.add_argument("--minutes", type=float, default=4, help="of traffic (%(default)s)")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "pictures", help="the folder (%(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with scene(folder, PARTS, metrics_per_webhook=True) as running, prometheus(folder, running.targets()) as server:
            wait_until(lambda: set(server.scraped().values()) == {"up"}, "scrape of every part")
            define(running)
            weather = Weather(given.minutes * 60)
            running.receiver.answer = weather.answer
            began = time.time()
            every_outcome(running)
            drive(running, weather)
            for file in draw_all(Source(server.url, began, time.time(), RATE_INTERVAL), given.to):
                print(file)


if __name__ == "__main__":
    main()
