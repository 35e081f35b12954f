"""`POST /v1/events` in batches of 100 on one API process, against the same events in bare XADD pipelines."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import orjson
import redis
from cryptography.fernet import Fernet

from shared.domain.events.decoding import check_event
from shared.domain.events.partitioning import partition_of
from shared.messaging.streams import FIELD, stream_key
from shared.settings import load_settings
from shared.storage.maintenance import first_start
from tests.bench import watched
from tests.bench.figures import Figure
from tests.bench.processes import Tree, started
from tests.servers import free_port, fresh_database, postgres_server, valkey_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

AREA = "publishing"
BATCH = 100
BATCHES = 300
IN_FLIGHT = 4
SINGLES = 1000
BATCH_TYPE = "application/cloudevents-batch+json"
ONE_TYPE = "application/cloudevents+json"


def measure(rounds: int, quick: bool) -> list[Figure]:
    """All figures of this area."""
    batches = BATCHES // 10 if quick else BATCHES
    wall: list[float] = []
    core: list[float] = []
    single: list[float] = []
    with running_api() as api:
        api.post(_bodies("warm", 20), BATCH_TYPE)
        for number in range(rounds):
            seconds, cpu = api.post(_bodies(f"round-{number}", batches), BATCH_TYPE)
            wall.append(batches * BATCH / seconds)
            core.append(batches * BATCH / cpu)
            ones = [orjson.dumps(one) for one in watched.events(f"single-{number}", SINGLES, projects=5)]
            single.append(SINGLES / api.post(ones, ONE_TYPE)[1])
        limit = [api.xadd_rate(f"limit-{number}", batches) for number in range(rounds)]
    against, reference = f"XADD of encoded events by {BATCH}", tuple(limit)
    return [
        Figure(
            AREA,
            f"POST in batches of {BATCH}",
            "events/s",
            tuple(wall),
            at_least=20_000,
            against=against,
            reference=reference,
        ),
        Figure(AREA, "the same, of the API process's CPU", "events/s a core", tuple(core)),
        Figure(AREA, "POST one by one, of the API process's CPU", "events/s a core", tuple(single)),
    ]


def _bodies(label: str, batches: int) -> list[bytes]:
    events = watched.events(label, batches * BATCH, projects=5)
    return [orjson.dumps(events[start : start + BATCH]) for start in range(0, len(events), BATCH)]


class Api:
    """A running API process, and the streams that it appends to."""

    def __init__(self, tree: Tree, port: int, key: str, redis_url: str) -> None:
        self._tree = tree
        self._port = port
        self.url = f"http://127.0.0.1:{port}"
        self.key = key
        self._headers = f"Host: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        self._redis_url = redis_url

    def post(self, bodies: Sequence[bytes], media_type: str) -> tuple[float, float]:
        """Post all bodies, `IN_FLIGHT` at a time. Returns wall seconds, and the process's CPU seconds."""
        cpu, began = self._tree.cpu_seconds(), time.perf_counter()
        asyncio.run(self._post_all(bodies, media_type))
        return time.perf_counter() - began, self._tree.cpu_seconds() - cpu

    async def _post_all(self, bodies: Sequence[bytes], media_type: str) -> None:
        left = iter(bodies)

        async def lane() -> None:
            # Bare sockets, so that on two cores the load costs the least.
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            for body in left:
                head = f"POST /v1/events HTTP/1.1\r\n{self._headers}Content-Type: {media_type}\r\n"
                writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                answer = await reader.readuntil(b"\r\n\r\n")
                if not answer.startswith(b"HTTP/1.1 202"):
                    raise RuntimeError(answer.decode())
                length = answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
            writer.close()

        async with asyncio.TaskGroup() as lanes:
            for _ in range(IN_FLIGHT):
                lanes.create_task(lane())

    def xadd_rate(self, label: str, batches: int) -> float:
        """Events a second of pipelines that append what is encoded already."""
        keyed = [
            (stream_key(partition_of(check_event(one), 16)), {FIELD: orjson.dumps(one)})
            for one in watched.events(label, batches * BATCH, projects=5)
        ]
        with redis.Redis.from_url(self._redis_url) as client:
            began = time.perf_counter()
            for start in range(0, len(keyed), BATCH):
                pipeline = client.pipeline(transaction=True)
                for key, fields in keyed[start : start + BATCH]:
                    pipeline.xadd(key, fields)
                pipeline.execute()
            return len(keyed) / (time.perf_counter() - began)


@contextmanager
def running_api() -> Iterator[Api]:
    """One API process on servers of its own, with an entity to publish for."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookline-bench-")))
        redis_url = stack.enter_context(valkey_server(append_only=True))
        key, port = "hlk-" + secrets.token_urlsafe(32), free_port()
        values = {
            "data_dir": str(folder),
            "redis_url": redis_url,
            "database_url": fresh_database(stack.enter_context(postgres_server(durable=True))),
            "secret_keys": Fernet.generate_key().decode(),
            "admin_api_key": key,
            "log_level": "WARNING",
        }
        first_start.prepare(load_settings(**values))
        others = {name: value for name, value in os.environ.items() if not name.startswith("HOOKLINE_")}
        environment = others | {f"HOOKLINE_{name.upper()}": value for name, value in values.items()}
        command = [str(Path(sys.executable).with_name("hookline")), "api", "--port", str(port)]
        tree = stack.enter_context(started(command, environment=environment, log=folder / "api.log"))
        headers = {"Authorization": f"Bearer {key}"}
        client = stack.enter_context(
            httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=30)
        )
        tree.wait_until(lambda: _answers(client), what="API")
        client.put(f"/v1/entities/{watched.ENTITY}", json={}).raise_for_status()
        yield Api(tree, port, key, redis_url)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").is_success
    except httpx.TransportError:
        return False
