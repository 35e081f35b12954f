"""Whatever is answered is in force: an event that is published after the answer to an edit is evaluated with it.

Workers look for edits by themselves only once an hour here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

from shared.messaging.edits import REVISION_KEY
from shared.settings import Settings
from tests.sdk.conftest import Hookline, Populated, event, open_hookline
from tests.sdk.scopes import PROJECT, prepare

# The client reads a field of its own that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
AUTOMATIONS = "/v1/entities/acme/automations"


@pytest.fixture
def hookline(settings: Settings, populated: Populated) -> Iterator[Hookline]:
    with open_hookline(settings.model_copy(update={"reload_interval": timedelta(hours=1)})) as hookline:
        hookline.keys |= populated.keys
        prepare(hookline)
        hookline.webhook("deploy")
        hookline.publish(event("LINK_ARTIFACT", project=PROJECT))  # the worker has looked
        yield hookline


def fired(hookline: Hookline) -> list[Any]:
    """What an event that is published now has sent."""
    hookline.receiver.requests.clear()
    hookline.publish(event("LINK_ARTIFACT", project=PROJECT))
    return sorted(request.json["n"] for request in hookline.receiver.requests)


def test_by_the_client(hookline: Hookline) -> None:
    from wandb.automations import OnLinkArtifact, SendWebhook

    api = hookline.client()
    (webhook,) = api.webhook_integrations(entity="acme")
    made: list[Any] = []
    for number in range(8):
        on = OnLinkArtifact(scope=api.project(PROJECT, entity="acme"))
        made.append(
            api.create_automation(on >> SendWebhook.from_integration(webhook, payload={"n": number}), name=str(number))
        )
        assert fired(hookline) == list(range(number + 1))
    api.update_automation(made[0], action=SendWebhook.from_integration(webhook, payload={"n": 8}))
    assert fired(hookline) == list(range(1, 9))
    changed = api.update_automation(made[1], enabled=False)
    assert fired(hookline) == list(range(2, 9))
    api.update_automation(changed, enabled=True)
    assert fired(hookline) == list(range(1, 9))
    for number, automation in enumerate(made[1:], start=1):
        api.delete_automation(automation)
        assert fired(hookline) == list(range(number + 1, 9))


def test_over_rest(hookline: Hookline) -> None:
    body = {"event": "LINK_ARTIFACT", "scope": {"project": PROJECT}}
    calling = {"action": {"webhook": "deploy", "payload": {"n": 1}}}
    made = hookline.rest("POST", AUTOMATIONS, {"name": "a", **body, **calling}, status=201)
    assert fired(hookline) == [1]
    path = f"{AUTOMATIONS}/{made['id']}"
    for patch, sent in (
        ({"enabled": False}, []),
        ({"enabled": True}, [1]),
        ({"filter": {"project": "other"}}, []),
        ({"filter": {}}, [1]),
        ({"action": {"webhook": "deploy", "payload": {"n": 2}}}, [2]),
    ):
        hookline.rest("PATCH", path, patch)
        assert fired(hookline) == sent, patch
    manifest = {"automations": [{"name": "b", **body, "action": {"webhook": "deploy", "payload": {"n": 3}}}]}
    hookline.rest("POST", "/v1/entities/acme/apply", manifest)
    assert fired(hookline) == [2, 3]
    hookline.rest("DELETE", path, status=204)
    assert fired(hookline) == [3]


def test_without_a_new_edit_nobody_looks(hookline: Hookline, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    cache = hookline.process.automations

    def refreshed(refresh: Callable[[], None] = cache._refresh) -> None:
        looked.append(1)
        refresh()

    monkeypatch.setattr(cache, "_refresh", refreshed)
    for _ in range(3):
        fired(hookline)
    assert looked == []
    hookline.rest("POST", AUTOMATIONS, {"name": "a", "event": "LINK_ARTIFACT", "action": {"no_op": True}}, status=201)
    for _ in range(3):
        fired(hookline)
    assert looked == [1]


def test_an_edit_that_can_t_be_told_is_made(hookline: Hookline) -> None:
    with Redis.from_url(hookline.settings.stream_url) as redis:
        redis.delete(REVISION_KEY)
        redis.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
        try:
            body = {"name": "a", "event": "LINK_ARTIFACT", "action": {"webhook": "deploy", "payload": {"n": 1}}}
            hookline.rest("POST", AUTOMATIONS, body, status=201)
        finally:
            redis.execute_command("CLIENT", "UNPAUSE")
        assert hookline.rest("GET", AUTOMATIONS)["items"][0]["name"] == "a"
