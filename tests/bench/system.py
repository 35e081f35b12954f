"""Runs Hookline as one contestant, as a black box: `hookline up`, its REST interface, its streams.

The only look inside is the count of delivered rows, since "recorded" means recorded in the database.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import psutil
import redis
import sqlalchemy as sa
from cryptography.fernet import Fernet

from tests.bench.events import ALIAS_PATTERN, ENTITY, EVENT_TYPE, PAYLOAD, PROJECT, Event, make_events, stream_key
from tests.bench.processes import Tree, started
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

READY = re.compile(r"^hookline ready on (http://\S+)$", re.MULTILINE)
PARTITIONS = 16
STREAM_CHUNK = 1000
REST_BATCH = 250
WARM_UP_EVENTS = 60
DELIVERED = sa.text("SELECT count(*) FROM deliveries WHERE status = 'delivered'")
DELIVERED_TO = sa.text(
    "SELECT count(*) FROM deliveries WHERE status = 'delivered'"
    " AND webhook_id = (SELECT id FROM webhooks WHERE name = :name)"
)
UNFINISHED = sa.text(
    "SELECT status, count(*) AS deliveries FROM deliveries WHERE status <> 'delivered' GROUP BY status"
)


class Hookline:
    """A running service with one webhook and one automation, which every benchmark event fires."""

    name = "hookline"

    def __init__(self, *, url: str, tree: Tree, api: httpx.Client, streams: redis.Redis, engine: sa.Engine) -> None:
        self.url = url
        self._tree = tree
        self._api = api
        self._streams = streams
        self._engine = engine

    def define(self, endpoint: str) -> None:
        """Create what a team creates: entity, signing secret, webhook, automation."""
        base = f"/v1/entities/{ENTITY}"
        self.call("PUT", base, {})
        self.call("PUT", f"{base}/secrets/SIGNING", {"value": secrets.token_urlsafe(32)})
        self.call("POST", f"{base}/webhooks", {"name": "deploy", "url": endpoint, "signing_secret": "SIGNING"})
        automation = {
            "name": "deploy-production",
            "scope": {"project": PROJECT},
            "event": EVENT_TYPE,
            "filter": {"alias": {"$regex": ALIAS_PATTERN}},
            "action": {"webhook": "deploy", "payload": PAYLOAD},
        }
        self.call("POST", f"{base}/automations", automation)

    def release(self, events: Sequence[Event]) -> float:
        """Append all events to their streams; the monotonic second before the first was appended."""
        entries = [(stream_key(event, PARTITIONS), {"e": orjson.dumps(event)}) for event in events]
        began = time.monotonic()
        for start in range(0, len(entries), STREAM_CHUNK):
            with self._streams.pipeline(transaction=False) as pipeline:
                for key, fields in entries[start : start + STREAM_CHUNK]:
                    pipeline.xadd(key, fields)  # type: ignore[arg-type]
                pipeline.execute()
        return began

    def publish(self, event: Event) -> None:
        """POST one event and wait for the 202."""
        self._post_events(orjson.dumps(event), "application/cloudevents+json")

    def publish_batch(self, events: Sequence[Event]) -> None:
        """POST one batch and wait for the 202."""
        self._post_events(orjson.dumps(events), "application/cloudevents-batch+json")

    def recorded(self) -> int:
        """Deliveries in the database that were delivered."""
        with self._engine.connect() as connection:
            return int(connection.execute(DELIVERED).scalar_one())

    def recorded_of(self, webhook: str) -> int:
        """Deliveries to the webhook of this name that were delivered."""
        with self._engine.connect() as connection:
            return int(connection.execute(DELIVERED_TO, {"name": webhook}).scalar_one())

    def unfinished(self) -> dict[str, int]:
        """Deliveries in any other status."""
        with self._engine.connect() as connection:
            return {str(row.status): int(row.deliveries) for row in connection.execute(UNFINISHED)}

    def cpu_seconds(self) -> float:
        return self._tree.cpu_seconds()

    def processes(self) -> list[psutil.Process]:
        """The service's supervisor and all that it runs."""
        return self._tree.members()

    def require_alive(self) -> None:
        self._tree.require_alive()

    def warm_up(self) -> None:
        """Deliver a few events, so that every process has its connections open."""
        self.publish_batch(make_events("warm-hookline", WARM_UP_EVENTS))
        self._tree.wait_until(lambda: self.recorded() >= WARM_UP_EVENTS, what="warm-up deliveries")

    def _post_events(self, body: bytes, media_type: str) -> None:
        response = self._api.post("/v1/events", content=body, headers={"Content-Type": media_type})
        _require_success(response)

    def call(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """What the API answers to a request that must succeed."""
        # One that was kept open may just be closed from the other side.
        response = self._api.request(method, path, json=body, headers={"Connection": "close"})
        _require_success(response)
        return response.json()


class OverRest:
    """The same running service, given its events through the REST interface instead of the streams."""

    name = "hookline over REST"

    def __init__(self, hookline: Hookline) -> None:
        self._hookline = hookline
        self.publish = hookline.publish
        self.recorded = hookline.recorded
        self.cpu_seconds = hookline.cpu_seconds
        self.require_alive = hookline.require_alive

    def release(self, events: Sequence[Event]) -> float:
        """POST all events in batches; the monotonic second before the first."""
        began = time.monotonic()
        for start in range(0, len(events), REST_BATCH):
            self._hookline.publish_batch(events[start : start + REST_BATCH])
        return began


def _require_success(response: httpx.Response) -> None:
    if not response.is_success:
        request = response.request
        raise RuntimeError(f"{request.method} {request.url}: {response.status_code} {response.text}")


@contextmanager
def running_hookline(
    *,
    redis_url: str,
    database_url: str,
    endpoint: str,
    folder: Path,
    workers: int = 2,
    more: Mapping[str, str] | None = None,
) -> Iterator[Hookline]:
    """Start the service on an empty database, define the automation and warm it up; `more` are settings of its own."""
    api_key = "hlk-" + secrets.token_urlsafe(32)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOOKLINE_")} | {
        "HOOKLINE_REDIS_URL": redis_url,
        "HOOKLINE_DATABASE_URL": database_url,
        "HOOKLINE_ADMIN_API_KEY": api_key,
        "HOOKLINE_SECRET_KEYS": Fernet.generate_key().decode(),
        "HOOKLINE_ALLOWED_NETWORKS": "127.0.0.0/8",
        "HOOKLINE_PARTITIONS": str(PARTITIONS),
        "HOOKLINE_LOG_LEVEL": "WARNING",
        **(more or {}),
    }
    command = [str(Path(sys.executable).with_name("hookline")), "up", "--data-dir", str(folder / "hookline-data")]
    command += ["--port", str(free_port()), "--workers", str(workers)]
    with ExitStack() as stack:
        tree = stack.enter_context(started(command, environment=environment, log=folder / "hookline.log"))
        tree.wait_until(lambda: READY.search(tree.log.read_text()) is not None, what="ready line")
        ready = READY.search(tree.log.read_text())
        assert ready is not None
        headers = {"Authorization": f"Bearer {api_key}"}
        api = stack.enter_context(httpx.Client(base_url=ready[1], headers=headers, timeout=60, trust_env=False))
        streams = stack.enter_context(redis.Redis.from_url(redis_url))
        engine = sa.create_engine(database_url)
        stack.callback(engine.dispose)
        hookline = Hookline(url=ready[1], tree=tree, api=api, streams=streams, engine=engine)
        hookline.define(endpoint)
        hookline.warm_up()
        yield hookline
