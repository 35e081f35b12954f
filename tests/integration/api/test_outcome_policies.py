"""Success rules and retried statuses on every way on which a policy is written, shown and taken back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.api.conftest import ACME, Api, create_webhook, webhook
from tests.integration.receiver import Answer, receiving

RULE = {"status": ["2xx", 409], "body": {"$or": [{"ok": True}, {"$regex": "^1$"}]}}
POLICY = {"retried_statuses": [404, "5xx"], "success": RULE}


def test_the_members_are_shown_patched_and_reset(api: Api) -> None:
    made = create_webhook(api, webhook() | {"policy": POLICY})
    path = f"{ACME}/webhooks/{made['id']}"
    assert made["policy"] | POLICY == made["policy"]
    assert api.ok("PATCH", path, {"policy": {"success": None}})["policy"]["success"] is None
    assert api.ok("PATCH", path, {"policy": {"success": None}})["policy"]["retried_statuses"] == [404, "5xx"]
    back = api.ok("PATCH", path, {"policy": {"retried_statuses": None}})
    assert back["policy"]["retried_statuses"] == [408, 425, 429, "5xx"]

    [first, *_] = reversed(api.ok("GET", f"{path}/revisions")["items"])
    assert api.ok("GET", f"{path}/revisions/{first['number']}")["definition"]["policy"] == made["policy"]
    restored = api.ok("POST", f"{path}/revisions/{first['number']}/restore")
    assert restored["policy"] == made["policy"]


def test_a_manifest_has_them_and_leaves_alone_what_is_so(api: Api) -> None:
    api.ok("PUT", f"{ACME}/secrets/SLACK_URL", {"value": "https://hooks.slack.com/services/T0/B0/x"}, status=201)
    plain, ruled = webhook("plain"), webhook("ruled") | {"policy": POLICY}
    chat = {"name": "chat", "url_secret": "SLACK_URL", "policy": {"success": {"body": {"$regex": "^ok$"}}}}
    body = {"webhooks": [plain, ruled], "slack": [chat]}
    api.ok("POST", f"{ACME}/apply", body)
    assert {one["change"] for one in api.ok("POST", f"{ACME}/apply", body)["changes"]} == {"unchanged"}
    exported = api.ok("GET", f"{ACME}/export")
    assert exported["webhooks"] == [plain, ruled]
    assert exported["slack"] == [chat]
    whole = {**ruled, "policy": create_policy(api, "ruled")}
    assert api.ok("POST", f"{ACME}/apply", {"webhooks": [whole]})["changes"][0]["change"] == "unchanged"


def create_policy(api: Api, name: str) -> dict[str, Any]:
    found: dict[str, Any] = api.ok("GET", f"{ACME}/webhooks/by-name/{name}")["policy"]
    return found


@pytest.mark.parametrize(
    ("policy", "loc", "words"),
    [
        ({"retried_statuses": [200]}, ["policy", "retried_statuses", 0], "must not be 2xx"),
        ({"retried_statuses": ["404"]}, ["policy", "retried_statuses", 0], "a class of them"),
        ({"retried_statuses": 404}, ["policy", "retried_statuses"], "must be a list"),
        ({"success": {"status": 200}}, ["policy", "success", "status"], "must be a list"),
        ({"success": {"body": {"$regex": "("}}}, ["policy", "success", "body"], "$regex must be a valid RE2 pattern"),
        ({"success": {"text": "ok"}}, ["policy", "success", "text"], "is not known here"),
        ({"success": {}}, ["policy", "success"], "must have status, body or both"),
        ({"success": {"body": {"ok": "\0"}}}, ["policy", "success", "body", "ok"], "U+0000"),
    ],
)
def test_a_policy_that_can_not_be_is_refused(api: Api, policy: Any, loc: list[Any], words: str) -> None:
    problem = api.refused("POST", f"{ACME}/webhooks", webhook() | {"policy": policy}, status=422)
    assert problem.locs == [loc]
    assert words in str(problem)


def test_a_test_of_a_webhook_asks_its_rule(api: Api) -> None:
    with receiving() as receiver:
        receiver.answer = lambda _request: Answer(200, body=b'{"ok":false}')
        draft = {"name": "draft", "url": receiver.url, "policy": {"success": {"body": {"ok": True}}}}
        saved = create_webhook(api, draft)
        for path, body in (("webhooks/test", {"webhook": draft}), (f"webhooks/{saved['id']}/test", {})):
            told = api.ok("POST", f"{ACME}/{path}", body)
            assert (told["outcome"], told["code"], told["response"]["status"]) == ("unsuccessful", "unsuccessful", 200)
            assert told["error"] == "its body does not pass its success rule: ok $eq true"
            assert "A delivery is retried" in told["diagnosis"]
        receiver.answer = lambda _request: Answer(403, {"Retry-After": "20"})
        told = api.ok("POST", f"{ACME}/webhooks/{saved['id']}/test", {})
        assert told["code"] == "too_many_requests"
        assert "20 s that the endpoint asks for" in told["diagnosis"]
