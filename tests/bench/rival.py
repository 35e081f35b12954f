"""The rival: what a competent team writes in an afternoon instead of using Hookline.

One Celery task per delivery on a Redis broker, which matches, renders, signs, sends on the process's one pooled
`httpx.Client` and inserts one row through SQLAlchemy. It is made as quick as that design allows: no results, no
events, no per-task logging, orjson, prepared statements. What it lacks is not speed: a crash loses the messages
in its window, retries live in the broker, nothing is leased or ordered.

It imports nothing of Hookline. `celery -A tests.bench.rival worker` runs it; `tests.bench.rival_system` starts it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import time
from datetime import UTC, datetime
from functools import cache
from typing import Any

import httpx
import orjson
import sqlalchemy as sa
from celery import Celery

BROKER_VARIABLE, DATABASE_VARIABLE, ENDPOINT_VARIABLE = "RIVAL_BROKER", "RIVAL_DATABASE", "RIVAL_ENDPOINT"
QUEUE = "rival"
SIGNING_KEY = b"a signing key of thirty-two byte"
ALIAS = re.compile(r"^prod(uction)?$")
SQLITE_BUSY_SECONDS = 30

metadata = sa.MetaData()
deliveries = sa.Table(
    "rival_deliveries",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("event_id", sa.String(255), nullable=False),
    sa.Column("event_type", sa.String(32), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("status_code", sa.Integer, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
)

app = Celery("rival", broker=os.environ.get(BROKER_VARIABLE, "redis://127.0.0.1:6379/0"))
app.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    worker_disable_rate_limits=True,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@cache
def client() -> httpx.Client:
    """The process's one HTTP client, opened after the fork."""
    return httpx.Client(timeout=15, trust_env=False, headers={"Content-Type": "application/json"})


@cache
def engine() -> sa.Engine:
    """The process's one engine, opened after the fork."""
    return open_engine(os.environ[DATABASE_VARIABLE])


def open_engine(url: str) -> sa.Engine:
    """An engine; on SQLite with a write-ahead log, as anyone who writes from two processes would set it."""
    if not url.startswith("sqlite"):
        return sa.create_engine(url, pool_size=32)
    opened = sa.create_engine(url, connect_args={"timeout": SQLITE_BUSY_SECONDS})
    sa.event.listen(opened, "connect", _prepare_sqlite)
    return opened


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def render(event: dict[str, Any]) -> bytes:
    """The same body that Hookline makes of `tests.bench.events.PAYLOAD`."""
    data = event["data"]
    artifact, collection, author = data["artifact"], data["collection"]["name"], data["author"]
    version = f"{data['entity']}/{data['project']}/{collection}:{data['alias']}"
    return orjson.dumps(
        {
            "event_id": event["id"],
            "event_type": event["type"],
            "author": author,
            "entity": data["entity"],
            "project": data["project"],
            "collection": collection,
            "alias": data["alias"],
            "artifact": f"wandb-artifact://_id/{artifact['id']}",
            "version": version,
            "ref": "main",
            "client_payload": {
                "model": version,
                "model_type": artifact["metadata"]["model_type"],
                "dataset": artifact["metadata"]["dataset"],
                "requested_by": author,
                "message": f"{author} marked {version} as {data['alias']}; deploy it to the staging cluster.",
            },
        }
    )


def sign(event_id: str, body: bytes) -> dict[str, str]:
    """Standard Webhooks headers: HMAC-SHA256 over id, timestamp and body."""
    timestamp = str(int(time.time()))
    digest = hmac.digest(SIGNING_KEY, b".".join((event_id.encode(), timestamp.encode(), body)), hashlib.sha256)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


@app.task(name="rival.deliver", autoretry_for=(httpx.HTTPError,), retry_backoff=5, retry_jitter=True, max_retries=8)
def deliver(event: dict[str, Any]) -> None:
    """Send and record the delivery of one event."""
    if not ALIAS.search(event["data"]["alias"]):
        return
    body = render(event)
    url = f"{os.environ[ENDPOINT_VARIABLE]}/{event['data']['project']}"  # each project has an endpoint of its own
    response = client().post(url, content=body, headers=sign(event["id"], body))
    response.raise_for_status()
    with engine().begin() as connection:
        connection.execute(
            deliveries.insert(),
            {
                "event_id": event["id"],
                "event_type": event["type"],
                "status": "delivered",
                "status_code": response.status_code,
                "payload": body.decode(),
                "finished_at": datetime.now(UTC),
            },
        )
