"""Settings pages without scripts: Slack, secrets made inside other forms, the audit log, manifests, and one's own."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.api.console.world import HOSTILE, SECRETS, World

ENTITY = "/console/e/acme"
SETTINGS = f"{ENTITY}/settings"


@pytest.fixture(scope="module")
def admin(world: World) -> Iterator[httpx.Client]:
    with world.visitor("admin") as visitor:
        yield visitor


@pytest.fixture(scope="module")
def member(world: World) -> Iterator[httpx.Client]:
    with world.visitor("member") as visitor:
        yield visitor


def test_a_slack_integration_is_made_tested_changed_and_deleted(world: World, admin: httpx.Client) -> None:
    form = {"name": "made alerts", "url_secret": "NOTHING", "channel": "#x", "team": ""}
    refused = admin.post(f"{SETTINGS}/slack/new", data=form)
    assert refused.status_code == 422 and 'id="e-url_secret"' in refused.text and 'value="made alerts"' in refused.text
    made = admin.post(f"{SETTINGS}/slack/new", data={**form, "url_secret": "SLACK_URL"})
    assert made.status_code == 303, made.text
    path = made.headers["location"].partition("?")[0]
    count = len(world.scene.receiver.requests)
    tested = admin.post(f"{path}/test")
    assert "The endpoint answered 204" in tested.text and world.scene.receiver.url + "/slack" not in tested.text
    assert world.scene.receiver.requests[count].path == "/slack"
    (revision,) = re.findall(r'name="revision" value="(\d+)"', admin.get(f"{path}/edit").text)
    changed = {**form, "url_secret": "SLACK_URL", "channel": "#y", "revision": revision}
    assert admin.post(f"{path}/edit", data=changed).status_code == 303
    assert "somebody else changed" in admin.post(f"{path}/edit", data=changed).text
    assert "#y" in admin.get(path).text
    for change, words in (("pause", "Paused"), ("resume", "resumed"), ("disable", "Disabled"), ("enable", "enabled")):
        assert words in admin.post(f"{path}/{change}", follow_redirects=True).text, change
    assert "Delete the Slack integration" in admin.get(f"{path}/delete").text
    assert admin.post(f"{path}/delete").headers["location"].endswith("?done=deleted")
    assert admin.get(path).status_code == 404


def test_a_secret_is_made_inside_a_form(world: World, admin: httpx.Client) -> None:
    value = "inside-" + "v" * 12
    form = {"name": "kept", "url": "https://x.example", "secrets": "SIGNING", "new_secret_name": "INSIDE"}
    stored = admin.post(
        f"{SETTINGS}/webhooks/new",
        data={**form, "new_secret_value": value, "new_secret_use": "access_token", "store_secret": "given"},
    )
    text = html.unescape(stored.text)
    assert stored.status_code == 200 and "The secret INSIDE is stored" in text and value not in text
    assert '<option value="INSIDE" selected>' in text and 'value="kept"' in text
    assert 'name="secrets" value="SIGNING" checked' in text
    again = admin.post(
        f"{SETTINGS}/webhooks/new", data={**form, "new_secret_value": value + "2", "store_secret": "given"}
    )
    assert again.status_code == 422 and "must be a new name" in again.text and value not in again.text
    made = admin.post(
        f"{SETTINGS}/webhooks/new",
        data={**form, "new_secret_name": "MADE_SIGNING", "new_secret_use": "secrets", "store_secret": "generate"},
    )
    (shown,) = set(re.findall(r"whsec_[\w+/=]{44}", html.unescape(made.text)))
    assert 'name="secrets" value="MADE_SIGNING" checked' in made.text
    assert 'name="secrets" value="SIGNING" checked' in made.text
    signing = {**form, "new_secret_name": "MADE_TO_SIGN", "new_secret_use": "access_token", "store_secret": "generate"}
    first = re.findall(
        r'<select id="f-(\w+)"(?:(?!</select>).)*value="MADE_TO_SIGN" selected',
        admin.post(f"{SETTINGS}/webhooks/new", data=signing).text,
        re.DOTALL,
    )
    assert first == ["signing_secret"]  # not the access token, which stands first in the list of uses
    assert shown not in admin.get(f"{SETTINGS}/webhooks/new").text
    bad = admin.post(f"{SETTINGS}/slack/new", data={"new_secret_name": "1 bad", "store_secret": "given"})
    assert bad.status_code == 422 and 'id="e-new_secret_name"' in bad.text
    for name in ("INSIDE", "MADE_SIGNING", "MADE_TO_SIGN"):
        world.call("DELETE", f"/entities/acme/secrets/{name}")


def test_changes_are_found_in_the_audit_log(world: World, admin: httpx.Client) -> None:
    world.call("PUT", "/entities/acme/secrets/AUDITED", {"value": "some value"})
    world.call("DELETE", "/entities/acme/secrets/AUDITED")
    text = admin.get(f"{SETTINGS}/audit?target=AUDITED&by=acme/admin").text
    assert "secret: create" in text and "secret: delete" in text and "some value" not in text
    assert "No change matches these filters" in admin.get(f"{SETTINGS}/audit?by=nobody").text
    assert admin.get(f"{SETTINGS}/audit?since=soon").status_code == 422
    first = admin.get(f"{SETTINGS}/audit?action=webhook").text
    assert f'href="{SETTINGS}/webhooks/{world.ids["deploy-hook"]}"' in first


def test_definitions_are_looked_at_before_they_are_applied(world: World, admin: httpx.Client) -> None:
    address, text = f"{SETTINGS}/manifest", "automations:\n- name: from yaml\n  event: LINK_ARTIFACT\n"
    exported = admin.get(f"{address}/export")
    assert exported.headers["content-disposition"] == 'attachment; filename="acme.yaml"'
    assert not [value for value in SECRETS.values() if value in exported.text]
    same = admin.post(address, data={"manifest": exported.text, "diff": "1"})
    assert "Nothing: all" in same.text
    wrong = admin.post(address, data={"manifest": text + "  filter: {alias: {$regex: '('}}\n", "diff": "1"})
    assert wrong.status_code == 422 and "Line 4: automations.0.filter" in wrong.text and "Line 2:" in wrong.text
    assert "Line 2:" in admin.post(address, data={"manifest": "a: 1\n- b", "diff": "1"}).text
    text += "  action: {no_op: true}\n"
    unseen = admin.post(address, data={"manifest": text, "apply": "1"})
    assert "What would change" in unseen.text and "Nothing was changed: meanwhile" in unseen.text
    (digest,) = re.findall(r'name="digest" value="(\w{64})"', unseen.text)
    other = admin.post(address, data={"manifest": text.replace("yaml", "elsewhere"), "apply": "1", "digest": digest})
    assert other.status_code == 200 and "Nothing was changed: meanwhile" in other.text
    done = admin.post(address, data={"manifest": text, "apply": "1", "digest": digest})
    assert done.status_code == 303, done.text
    assert "1 created, 0 updated, 0 deleted" in admin.get(done.headers["location"]).text
    (made,) = world.call("GET", "/entities/acme/automations?name=from yaml")["items"]
    changed = admin.post(address, data={"manifest": text + "  description: |\n    a <b>\n", "diff": "1"})
    assert "a &lt;b&gt;" in changed.text and "1 updated" in changed.text
    world.call("DELETE", f"/entities/acme/automations/{made['id']}")
    with world.visitor("member") as member:
        kept = "webhooks: []\nautomations: []"
        refused = member.post(address, data={"manifest": kept, "diff": "1"})
        assert refused.status_code == 422 and "needs the role admin" in refused.text and kept in refused.text


def test_what_is_one_s_own(world: World) -> None:
    world.call("POST", "/users", {"name": "olga", "roles": [{"entity": "other", "role": "member"}]}, key="root")
    world.keys["olga"] = world.call("POST", "/keys", {"name": "first", "user": "olga"}, key="root")["key"]
    with world.visitor("olga") as olga:
        made = olga.post("/console/me/keys", data={"name": "mine-to-go"})
        (key,) = re.findall(r"hlk-[\w-]{43}", made.text)
        page = olga.get("/console/me").text
        assert key not in page and "mine-to-go" in page and "acme" not in page
        (revoke,) = re.findall(r'href="([^"]+/revoke)">Revoke<[^>]*> mine-to-go<', page)
        assert olga.post(revoke).headers["location"].endswith("?done=revoked")
        assert "mine-to-go" not in olga.get("/console/me").text
        world.call("PUT", "/entities/acme/members/olga", {"role": "member"})
        assert "Accept" in olga.get("/console/me").text
        assert olga.post("/console/me/invitations/acme/decline").headers["location"].endswith("?done=declined")
        assert olga.get(ENTITY).status_code == 404
        world.call("PUT", "/entities/acme/members/olga", {"role": "member"})
        assert olga.post("/console/me/invitations/acme/accept").headers["location"].endswith("?done=accepted")
        assert olga.get(ENTITY).status_code == 200
        chosen = olga.post("/console/me/default-entity", data={"default_entity": "acme"})
        assert chosen.headers["location"].endswith("?done=default")
        refused = olga.post("/console/me/default-entity", data={"default_entity": "elsewhere"})
        assert refused.status_code == 422 and "must be the name of an entity" in refused.text
        assert "Leave <bdi" in olga.get("/console/me/entities/acme/leave").text
        assert olga.post("/console/me/entities/acme/leave").headers["location"].endswith("?done=left")
        assert olga.get(ENTITY).status_code == 404
    with world.visitor("admin") as admin:
        world.call("PUT", "/entities/acme/members/olga", {"role": "member"})
        (address,) = re.findall(r'action="([^"]+/olga/withdraw)"', admin.get(f"{SETTINGS}/members").text)
        assert admin.post(address).headers["location"].endswith("?done=withdrawn")


def test_the_last_administrator_is_told_why_they_can_t_leave(world: World) -> None:
    with world.visitor("outsider") as outsider:
        answer = outsider.post("/console/me/entities/other/leave")
        assert answer.status_code == 409 and "would have no administrator" in html.unescape(answer.text)


def test_a_source_shows_what_became_of_its_requests(world: World, member: httpx.Client) -> None:
    listed = member.get(f"{SETTINGS}/sources").text
    path = f"{SETTINGS}/sources/{world.ids['comet']}"
    assert f'href="{path}"' in listed
    shown = member.get(path).text
    for told in ("Ignored", "no rule&#39;s `when` holds of it", "Failed", "is required", "***COMET***", "/v1/in/"):
        assert told in shown, told
    assert SECRETS["COMET"] not in listed + shown
    assert HOSTILE not in shown
    assert member.get(f"{SETTINGS}/sources/src_999").status_code == 404
    assert member.get(f"{path}?cursor=none").status_code == 422
