"""The editor: what is typed is what is stored, its preview is what a dry run says, and why something did not fire."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine
from sqlalchemy import event as engine_event

from dispatcher.console import editor_choices
from tests.integration.api.console.world import World
from tests.integration.scene import alias_event

ENTITY = "/console/e/acme"
FIELDS: dict[str, Any] = {
    "event": "ADD_ARTIFACT_ALIAS",
    "scope.project": "wandb-registry-model",
    "scope.collection": "llm",
    "filter.field": ["alias", ""],
    "filter.op": ["$regex", "$eq"],
    "filter.value": ["^prod", ""],
    "action": "webhook",
    "action.webhook": "deploy-hook",
    "action.payload": '{"model": "${artifact_version_string}", "token": "${DEPLOY_TOKEN}"}',
    "name": "made in the editor",
    "description": "",
    "enabled": "1",
}


@pytest.fixture(scope="module")
def member(world: World) -> Iterator[httpx.Client]:
    """Somebody who may edit automations."""
    with world.visitor("member") as visitor:
        yield visitor


def numbers(text: str) -> dict[str, int]:
    """The counts in a preview or an explanation."""
    return {words: int(number) for words, number in re.findall(r"<dt>([^<]+)</dt><dd>(\d+)</dd>", text)}


def test_an_automation_is_made_changed_and_fires(world: World, member: httpx.Client) -> None:
    made = member.post(f"{ENTITY}/automations/new", data=FIELDS)
    assert made.status_code == 303, html.unescape(made.text)
    path = made.headers["location"].partition("?")[0]
    number = path.rpartition("/")[2]
    stored = world.call("GET", f"/entities/acme/automations/{number}")
    assert stored["filter"] == {"alias": {"$regex": "^prod"}}
    assert stored["action"]["payload"] == {"model": "${artifact_version_string}", "token": "${DEPLOY_TOKEN}"}
    editor = html.unescape(member.get(f"{path}/edit").text)
    (revision,) = re.findall(r'name="revision" value="(\d+)"', editor)
    changed = {**FIELDS, "revision": revision, "filter.value": ["^editor-", ""], "cooldown.per": "automation"}
    refused = member.post(f"{path}/edit", data={**changed, "cooldown.period": "often"})
    assert refused.status_code == 422 and 'id="e-cooldown"' in refused.text and "^editor-" in refused.text
    assert member.post(f"{path}/edit", data={**changed, "cooldown.period": "1d"}).status_code == 303
    late = member.post(f"{path}/edit", data={**changed, "cooldown.period": "1d"})
    assert late.status_code == 409 and "Somebody else saved" in late.text and "^editor-" in late.text
    assert "acme/member" in late.text and "<code>cooldown</code>" in late.text
    (newer,) = re.findall(r'name="revision" value="(\d+)"', late.text)
    over = {**changed, "cooldown.period": "2d", "revision": newer}
    assert member.post(f"{path}/edit", data=over).status_code == 303
    world.publish(alias_event("editor-1", event_id="from-the-editor"))
    assert "from-the-editor" in member.get(path).text
    sent = world.scene.receiver.requests[-1]
    assert sent.json["token"] == "tok-canary-5e6f2b91"
    copied = html.unescape(member.get(f"{ENTITY}/automations/new?from={number}").text)
    assert 'value="^editor-"' in copied and 'name="name" type="text" value=""' in copied
    assert member.post(f"{path}/delete").status_code == 303


def test_the_type_of_an_automation_can_be_changed(world: World, member: httpx.Client) -> None:
    made = member.post(f"{ENTITY}/automations/new", data={**FIELDS, "name": "changes its type"})
    path = made.headers["location"].partition("?")[0]
    shown = member.post(f"{path}/edit", data={**FIELDS, "event": "RUN_METRIC", "show": "preview"}).text
    assert 'name="condition.metric"' in shown
    (revision,) = re.findall(r'name="revision" value="(\d+)"', member.get(f"{path}/edit").text)
    metric = {
        "name": "changes its type",
        "event": "RUN_METRIC",
        "revision": revision,
        "condition.metric": ["accuracy", ""],
        "condition.aggregate": ["AVERAGE", ""],
        "condition.window": ["3", ""],
        "condition.op": ["$gt", "$gt"],
        "condition.threshold": ["0.9", ""],
        "action": "no_op",
    }
    for fields in (metric, {**FIELDS, "name": "changes its type"}):
        fields["revision"] = re.findall(r'name="revision" value="(\d+)"', member.get(f"{path}/edit").text)[0]
        saved = member.post(f"{path}/edit", data=fields)
        assert saved.status_code == 303, html.unescape(saved.text)
        assert world.call("GET", f"/entities/acme/automations/{path.rpartition('/')[2]}")["event"] == fields["event"]
    assert member.post(f"{path}/delete").status_code == 303


def test_faults_stand_at_their_fields_and_input_stays(member: httpx.Client) -> None:
    before = member.get(f"{ENTITY}/automations").text.count('class="main-link"')
    for changed, field, words in (
        ({"name": ""}, "name", "is required"),
        ({"filter.value": ["(", ""]}, "filter", "RE2"),
        ({"filter.field": ["colour", ""]}, "filter", "colour"),
        ({"action.payload": "{"}, "action.payload", "is not JSON"),
        ({"action.payload": '{"x": "${NOPE}"}'}, "action.payload", "not available"),
        ({"action.webhook": ""}, "action.webhook", "must be the name"),
        ({"scope.project": ""}, "scope.project", "is required with a collection"),
        ({"rate_limit": "much"}, "rate_limit", "must be"),
    ):
        answer = member.post(f"{ENTITY}/automations/new", data={**FIELDS, **changed})
        text = html.unescape(answer.text)
        assert answer.status_code == 422, field
        at = text.partition(f'id="e-{field}"')[2].partition("</p>")[0]
        assert words in at, (field, at)
        assert 'value="llm"' in text and "Nothing was saved" in text
    assert member.get(f"{ENTITY}/automations").text.count('class="main-link"') == before


def test_the_preview_says_what_a_dry_run_says(world: World, member: httpx.Client) -> None:
    panel = member.post(f"{ENTITY}/automations/preview", data=FIELDS)
    assert panel.status_code == 200 and "<html" not in panel.text
    definition = {
        "name": "draft",
        "event": "ADD_ARTIFACT_ALIAS",
        "scope": {"project": "wandb-registry-model", "collection": "llm"},
        "filter": {"alias": {"$regex": "^prod"}},
        "action": {"no_op": True},
    }
    said = world.call(
        "POST", "/entities/acme/automations/dry-run", {"definition": definition, "since": "1h", "limit": 500}
    )["summary"]
    shown = numbers(panel.text)
    assert shown["fired"] == said["fired"] >= 1
    assert (shown["events"], shown["matched"], shown["held back"]) == (said["events"], said["matched"], said["skipped"])
    assert shown["in scope"] == said["in_scope"]
    text = html.unescape(panel.text)
    assert 'alias $regex "^prod"' in text and '← "staging"' in text
    assert '"model": "acme/wandb-registry-model/llm:production"' in text and "***DEPLOY_TOKEN***" in text


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"filter.value": ["^nothing-at-all$", ""]}, "It would not have fired."),
        ({"action.webhook": ""}, "No payload is shown: action.webhook"),
        ({"name": "", "action.payload": '{"x": "${NOPE}"}'}, "No payload is shown: action.payload"),
        ({"filter.value": ["(", ""]}, "There is no preview yet:"),
        ({"action.payload": "{"}, "action.payload: is not JSON"),
        ({"event": "RUN_METRIC", "scope.collection": ""}, "conditions: is required"),
        ({"since": "1000d"}, "It would have fired"),
    ],
    ids=str,
)
def test_the_preview_says_what_is_missing(member: httpx.Client, changed: dict[str, Any], words: str) -> None:
    text = member.post(f"{ENTITY}/automations/preview", data={**FIELDS, **changed}).text
    assert words in html.unescape(text)


def test_the_editor_is_prefilled_and_has_examples(member: httpx.Client) -> None:
    text = member.get(f"{ENTITY}/automations/new?project=a%22b&collection=c&webhook=gone-hook&event=LINK_ARTIFACT").text
    assert (
        'value="a&#34;b"' in text and 'value="gone-hook" selected' in text and 'value="LINK_ARTIFACT" selected' in text
    )
    filled = html.unescape(
        member.post(f"{ENTITY}/automations/new", data={**FIELDS, "example": "fill", "template": "github-dispatch"}).text
    )
    assert '"event_type": "hookline"' in filled and 'value="^prod"' in filled
    more = member.post(f"{ENTITY}/automations/new", data={**FIELDS, "show": "terms"}).text
    assert more.count('name="filter.field"') == 2


def test_why_an_event_did_not_fire(world: World, member: httpx.Client) -> None:
    number = world.ids["deploy-on-production"]
    all_of_them = member.get(f"{ENTITY}/why?automation={number}").text
    assert numbers(all_of_them)["fired"] >= 1 and "Explain this event" in all_of_them
    for event, since, words in (
        ("promote-1", "1h", "No. The filter says no."),
        ("promote-0", "1h", "Yes, it fired."),
        ("step-1", "1h", "No. It is another type of event."),
        ("no-such-event", "24h", "There is no such event"),
    ):
        answer = member.get(f"{ENTITY}/why", params={"automation": number, "event": event, "since": since})
        assert answer.status_code == 200
        assert words in html.unescape(answer.text), event
    held = member.get(f"{ENTITY}/why", params={"automation": world.ids["once a day"], "event": "promote-6"}).text
    assert "its cooldown holds it back" in held
    wrong = member.get(f"{ENTITY}/why", params={"automation": number, "since": "ever"})
    assert wrong.status_code == 422
    assert member.get(f"{ENTITY}/why?automation=aut_999").status_code == 404


def test_webhooks_of_the_organization_are_chosen_by_their_team(world: World) -> None:
    world.call("PUT", "/entities/house", {"kind": "organization"}, key="root")
    world.call("PUT", "/entities/wing", {"parent": "house"}, key="root")
    hook = {"name": "shared", "url": "http://127.0.0.1:1999/x", "access_token": "TOKEN", "enabled": False}
    world.call("PUT", "/entities/house/secrets/TOKEN", {"value": "tok-of-the-house"}, key="root")
    number = world.call("POST", "/entities/house/webhooks", hook, key="root")["id"]
    world.call("POST", "/entities/wing/webhooks", {"name": "own", "url": "http://127.0.0.1:1999/y"}, key="root")
    with world.visitor("root") as root:
        own = root.get("/console/e/wing/automations/new").text
        assert '<option value="own"' in own and "shared" not in own
        form = {"event": "LINK_ARTIFACT", "action": "webhook", "show": "preview"}
        theirs = root.post("/console/e/wing/automations/new", data={**form, "team": "house"}).text
        assert f'<option value="{number}">shared</option>' in theirs and '<option value="own"' not in theirs
        chosen = {**form, "action.webhook": number, "name": "calls the house"}
        shown = root.post("/console/e/wing/automations/new", data=chosen).text
        assert '<option value="house" selected' in shown and f'<option value="{number}" selected>shared' in shown
        assert "the webhook&#39;s access token" in shown and "This webhook is disabled" in shown
        del chosen["show"]
        made = root.post("/console/e/wing/automations/new", data=chosen)
        assert made.status_code == 303, html.unescape(made.text)
        edited = root.get(made.headers["location"].partition("?")[0] + "/edit").text
        assert '<option value="house" selected' in edited and f'<option value="{number}" selected>shared' in edited
        empty = root.post("/console/e/house/automations/new", data={**form, "action": "slack"}).text
        assert "TOKEN" not in empty


def test_of_many_webhooks_one_is_chosen_by_its_name(
    world: World, member: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editor_choices, "MAX_TARGETS", 2)
    page = member.get(f"{ENTITY}/automations/new?webhook=retried-hook").text
    assert 'id="f-action.webhook" name="action.webhook" type="text" value="retried-hook"' in page
    (listed,) = re.findall(r'<datalist id="targets">.*?</datalist>', page, re.S)
    assert listed.count("<option") == 3  # two by their names, and the chosen one
    assert "This webhook" not in page


def test_the_editor_reads_the_chosen_webhook_alone(world: World, member: httpx.Client) -> None:
    """However many webhooks there are: one is looked up, and no secret is decrypted."""
    statements: list[str] = []
    see = lambda _c, _k, statement, *_more: statements.append(statement)  # noqa: E731
    engine_event.listen(Engine, "before_cursor_execute", see)
    try:
        assert member.get(f"{ENTITY}/automations/new?webhook=deploy-hook").status_code == 200
    finally:
        engine_event.remove(Engine, "before_cursor_execute", see)
    assert not [one for one in statements if "ciphertext" in one]
    assert len([one for one in statements if "webhook_secrets" in one]) <= 2
