"""A world for the console's pages, and its server: a key for each role, deliveries of each status, hostile names."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import uvicorn
from redis import Redis

from dispatcher.app import create_app
from shared.settings import Settings, load_settings
from shared.storage.database.transactions import write_transaction
from shared.storage.evaluation.poison import PoisonEntry, quarantine
from shared.storage.maintenance import first_start
from tests.integration.conftest import ADMIN_KEY, SECRET_KEY
from tests.integration.processes import wait_until
from tests.integration.receiver import Answer, Received, Receiver, receiving
from tests.integration.scene import Scene, alias_event, metric_event, opened_scene
from tests.servers import free_port, valkey_server

PATIENCE_SECONDS = 60
"""How long a busy machine may take to answer; httpx waits 5 s by itself."""
CANARY = "http://canary.invalid"
HOSTILE = (
    "<script>window.pwned=1</script><img src=x onerror=\"window.pwned=1\"><svg onload='window.pwned=1'>"
    f"\"'><a hx-get=/x hx-trigger=load href=javascript:window.pwned=1>x</a>{{{{7*7}}}}${{7*7}}</textarea></title>"
    f"<base href={CANARY}><meta http-equiv=refresh content='0;url={CANARY}'>"
    f"<form id=htmx action={CANARY}><b data-canary=1>"
    "\u202egnp\u2066"
)
"""Every kind of markup that a page must show as text."""
PROBE = HOSTILE.replace("$", "$$")
"""As a payload must have it: with a dollar that is none of a variable."""
SECRETS = {
    "DEPLOY_TOKEN": "tok-canary-5e6f2b91",
    "SIGNING": "whsec_Y2FuYXJ5LXNpZ25pbmcta2V5LTAxMjM0NQ==",
    "COMET": "comet-canary-77aa01bc",
}


@dataclass
class World:
    """A running service, and what is in it."""

    url: str
    settings: Settings
    scene: Scene
    keys: dict[str, str] = field(default_factory=lambda: {"root": ADMIN_KEY})
    ids: dict[str, str] = field(default_factory=dict)
    """The ids of automations and webhooks, by name."""

    def call(self, method: str, path: str, body: object = None, *, key: str = "admin") -> Any:
        """The answer to a request to REST that must go through."""
        headers = {"Authorization": f"Bearer {self.keys[key]}"}
        answer = httpx.request(method, f"{self.url}/v1{path}", json=body, headers=headers, timeout=PATIENCE_SECONDS)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def publish(self, *events: Any) -> None:
        """Publish events, evaluate them, and deliver what is due."""
        self.call("POST", "/events", list(events), key="publisher")
        self.scene.evaluate()
        self.scene.deliver()

    @contextmanager
    def visitor(self, key: str | None) -> Iterator[httpx.Client]:
        """A browser without scripts, signed in with the key of this name."""
        own = {"Sec-Fetch-Site": "same-origin", "User-Agent": HOSTILE.encode("ascii", "ignore").decode()}
        with httpx.Client(base_url=self.url, headers=own, timeout=PATIENCE_SECONDS) as client:
            if key is not None:
                answer = client.post("/console/sign-in", data={"key": self.keys[key]})
                assert answer.status_code == 303, answer.text
            yield client

    def delivery(self, **criteria: str) -> str:
        """The newest delivery that matches."""
        found = self.call("GET", "/entities/acme/deliveries?" + "&".join(f"{k}={v}" for k, v in criteria.items()))
        newest: str = found["items"][0]["id"]
        return newest

    def first_revision(self, name: str) -> int:
        """The number of the first kept revision of the automation, webhook or Slack integration of this name."""
        number = self.ids[name]
        kind = {"aut": "automations", "wh": "webhooks", "slk": "slack"}[number.partition("_")[0]]
        found = self.call("GET", f"/entities/acme/{kind}/{number}/revisions?limit=500")
        return int(found["items"][-1]["number"])


@contextmanager
def opened_world(folder: Path, template: Path) -> Iterator[World]:
    """A world on a copy of an SQLite template, with a Valkey and a receiver of its own."""
    with ExitStack() as stack:
        streams = stack.enter_context(valkey_server())
        receiver = stack.enter_context(receiving())
        path = folder / "hookline.db"
        path.write_bytes(template.read_bytes())
        settings = load_settings(
            data_dir=folder / "data",
            database_url=f"sqlite:///{path}",
            redis_url=streams,
            broker_url=streams.removesuffix("/0") + "/1",
            secret_keys=SECRET_KEY,
            admin_api_key=ADMIN_KEY,
            allowed_networks="127.0.0.0/8",
            partitions=4,
            reload_interval="0s",
        )
        first_start.prepare(settings)
        url = stack.enter_context(served(settings))
        redis = stack.enter_context(Redis.from_url(streams))
        httpx.put(
            f"{url}/v1/entities/acme",
            json={},
            headers={"Authorization": f"Bearer {ADMIN_KEY}"},
            timeout=PATIENCE_SECONDS,
        )
        scene = stack.enter_context(opened_scene(settings, redis, receiver, new=False))
        world = World(url, settings, scene)
        _populate(world, receiver)
        yield world


@contextmanager
def served(settings: Settings) -> Iterator[str]:
    """The application behind a real server, in a thread; yields its address."""
    port = free_port()
    config = uvicorn.Config(
        create_app(settings), host="127.0.0.1", port=port, log_config=None, lifespan="on", proxy_headers=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="console-server")
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the server's start")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def _answer(request: Received) -> Answer:
    if request.path.startswith("/broken"):
        return Answer(500, body=b"out of disk")
    if request.path.startswith("/gone"):
        told = HOSTILE.encode("ascii", "ignore").decode()
        return Answer(404, {"X-Echo": told, "X-Request-ID": told[:100]}, f"<h1>{HOSTILE}</h1>".encode())
    return Answer(204, body=b"")


def _take_webhooks(world: World) -> None:
    """A source, and two requests that become no event."""
    event = {"collection": {"name": "${body.model}"}, "artifact": {"id": "1"}}
    body = {
        "name": "comet",
        "kind": "generic",
        "secret": "COMET",
        "project": HOSTILE[:200],
        "verify": {"token": {"header": "X-Token"}},
        "events": [{"when": {"body.event": "new"}, "type": "CREATE_ARTIFACT", "data": event}],
    }
    made = world.call("POST", "/entities/acme/sources", body)
    world.ids["comet"] = made["id"]
    token = {"X-Token": SECRETS["COMET"], "User-Agent": HOSTILE[:200], "X-GitHub-Event": HOSTILE[:200]}
    for sent, status in (({"event": "old", "text": HOSTILE, "leak": SECRETS["COMET"]}, 202), ({"event": "new"}, 422)):
        answer = httpx.post(f"{world.url}{made['path']}", json=sent, headers=token, timeout=PATIENCE_SECONDS)
        assert answer.status_code == status, answer.text


def _hostile_run() -> Any:
    """A metric of which everything is hostile that a training script says."""
    event = metric_event(1, run=HOSTILE, event_id=f"run {HOSTILE[:200]}", **{HOSTILE[:200]: 0.5})
    event["source"] = quote(f"/{HOSTILE[:100]}")
    event["data"] |= {"project": HOSTILE[:300], "author": HOSTILE, "config": {HOSTILE: HOSTILE}}
    event["data"]["run"]["name"] = HOSTILE
    return event


def _populate(world: World, receiver: Receiver) -> None:
    receiver.answer = _answer
    world.call("PUT", "/entities/other", {}, key="root")
    for name, entity in (("admin", "acme"), ("member", "acme"), ("publisher", "acme"), ("outsider", "other")):
        role = "admin" if name == "outsider" else name
        made = world.call("POST", "/keys", {"name": name, "entity": entity, "role": role}, key="root")
        world.keys[name], world.ids[f"{name}-key"] = made["key"], made["id"]
    # Somebody who publishes here and reads elsewhere: signed in, and without the right to see a page of the entity.
    roles = [{"entity": "acme", "role": "publisher"}, {"entity": "other", "role": "member"}]
    world.call("POST", "/users", {"name": "pub", "roles": roles}, key="root")
    world.keys["pub"] = world.call("POST", "/keys", {"name": "pub", "user": "pub"}, key="root")["key"]
    for name, value in SECRETS.items():
        world.call("PUT", f"/entities/acme/secrets/{name}", {"value": value})
    world.call("PUT", "/entities/acme/secrets/SLACK_URL", {"value": f"{receiver.url}/slack"})
    posts = {"name": "alerts", "url_secret": "SLACK_URL", "channel": "#models", "team": HOSTILE[:200]}
    world.ids["alerts"] = world.call("POST", "/entities/acme/slack", posts)["id"]
    _take_webhooks(world)
    policy: dict[str, Any] = {"schedule_seconds": []}
    hooks: dict[str, dict[str, Any]] = {
        "deploy-hook": {"access_token": "DEPLOY_TOKEN", "signing_secret": "SIGNING", "secrets": ["DEPLOY_TOKEN"]},
        "broken-hook": {"policy": policy},
        "gone-hook": {"policy": policy},
        "retried-hook": {"policy": {"schedule_seconds": [3600]}},
        "paused-hook": {"paused": True},
    }
    for name, more in hooks.items():
        url = f"{receiver.url}/{'broken' if name == 'retried-hook' else name.removesuffix('-hook')}"
        made = world.call("POST", "/entities/acme/webhooks", {"name": name, "url": url, **more})
        world.ids[name] = made["id"]
    payload = {"model": "${artifact_version_string}", "token": "${DEPLOY_TOKEN}", "by": "${event_author}"}
    rules: dict[str, dict[str, Any]] = {
        "deploy-on-production": {
            "description": "Deploys what is promoted.",
            "scope": {"project": "wandb-registry-model", "collection": "llm"},
            "filter": {"alias": {"$regex": "^prod"}},
            "action": {"webhook": "deploy-hook", "payload": payload},
        },
        "broken": {"filter": {"alias": "broken"}, "action": {"webhook": "broken-hook", "payload": {"a": 1}}},
        "gone": {"filter": {"alias": "gone"}, "action": {"webhook": "gone-hook", "payload": {PROBE[:200]: PROBE}}},
        "retried": {"filter": {"alias": "retried"}, "action": {"webhook": "retried-hook", "payload": {"a": 1}}},
        "once a day": {
            "filter": {"alias": "often"},
            "cooldown": {"per": "collection", "period": "1d"},
            "action": {"webhook": "deploy-hook", "payload": {"a": 1}},
        },
        "record": {"action": {"no_op": True}, "filter": {"alias": "recorded"}},
        "accuracy": {
            "event": "RUN_METRIC",
            "conditions": [{"metric": "accuracy", "aggregate": "AVERAGE", "window": 3, "op": "$gt", "threshold": 0.9}],
            "action": {"no_op": True},
        },
        HOSTILE[:120]: {
            "description": HOSTILE,
            "filter": {"alias": HOSTILE},
            "action": {"webhook": "gone-hook", "payload": {"x": PROBE}},
            "enabled": False,
        },
    }
    for name, definition in rules.items():
        made = world.call(
            "POST", "/entities/acme/automations", {"name": name, "event": "ADD_ARTIFACT_ALIAS", **definition}
        )
        world.ids["hostile" if name.startswith("<") else name] = made["id"]
    with write_transaction(world.scene.process.engine) as connection:
        quarantine(
            connection,
            3,
            [PoisonEntry("1-1", HOSTILE, f"{HOSTILE}\xff".encode("latin-1", "replace"))],
            datetime.now(UTC),
        )
    aliases = ("production", "staging", "broken", "gone", "retried", "often", "often", "recorded")
    world.publish(
        *(alias_event(alias, event_id=f"promote-{number}") for number, alias in enumerate(aliases)),
        alias_event("gone", event_id=HOSTILE[:200], collection=HOSTILE[:300], author=HOSTILE),
        _hostile_run(),
        *(metric_event(step, accuracy=0.8 + step / 20, event_id=f"step-{step}") for step in range(5)),
    )
    replayed = world.call("POST", "/entities/acme/deliveries/replay", {"event": "promote-5"})
    world.ids["replay"] = replayed["id"]
    world.scene.deliver()
