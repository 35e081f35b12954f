"""Sources in the console, without scripts: made, tried, changed, given a new secret, disabled and deleted."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.api.console.world import CANARY, HOSTILE, PATIENCE_SECONDS, SECRETS, World

SOURCES = "/console/e/acme/settings/sources"
RULE = '[{"when": {"body.event": "new"}, "type": "CREATE_ARTIFACT", "id": "${body.id}", "data": DATA}]'.replace(
    "DATA", '{"collection": {"name": "${body.model}"}, "artifact": {"id": "1", "version": "v0"}, "author": "ci"}'
)
FIELDS = {
    "name": "made source",
    "kind": "generic",
    "secret": "COMET",
    "former_secret": "",
    "project": "models",
    "verify": '{"token": {"header": "X-Token"}}',
    "events": RULE,
}


@pytest.fixture(scope="module")
def admin(world: World) -> Iterator[httpx.Client]:
    with world.visitor("admin") as visitor:
        yield visitor


def _made(admin: httpx.Client, **changed: str) -> str:
    """The path of a new source."""
    made = admin.post(f"{SOURCES}/new", data={**FIELDS, **changed})
    assert made.status_code == 303, made.text
    return made.headers["location"].partition("?")[0]


def _revision(admin: httpx.Client, path: str) -> str:
    (revision,) = re.findall(r'name="revision" value="(\d+)"', admin.get(f"{path}/edit").text)
    return str(revision)


def _sent(world: World, path: str, token: str, number: int) -> int:
    """With what a request of the service is answered."""
    source = world.call("GET", f"/entities/acme/sources/{path.rpartition('/')[2]}")
    body = {"event": "new", "model": "llm", "id": str(number)}
    return httpx.post(
        f"{world.url}{source['path']}", json=body, headers={"X-Token": token}, timeout=PATIENCE_SECONDS
    ).status_code


def test_a_source_is_made_used_changed_and_deleted(world: World, admin: httpx.Client) -> None:
    path = _made(admin)
    shown = html.unescape(admin.get(f"{path}?done=created").text)
    source = world.call("GET", f"/entities/acme/sources/{path.rpartition('/')[2]}")
    assert "Enter the URL below" in shown and f">{world.url}{source['path']}<" in shown
    assert "made source" in admin.get(SOURCES).text
    assert _sent(world, path, SECRETS["COMET"], 1) == 202
    assert "Accepted" in admin.get(path).text

    revision = _revision(admin, path)
    form = html.unescape(admin.get(f"{path}/edit").text)
    assert '"header": "X-Token"' in form and "${body.model}" in form and 'value="models"' in form
    assert "null" not in form + shown, "members that were left out are not written"
    changed = {**FIELDS, "name": "renamed source", "project": "", "revision": revision}
    changed["events"] = RULE.replace('"author"', '"project": "elsewhere", "author"')
    saved = admin.post(f"{path}/edit", data=changed)
    assert saved.status_code == 303, saved.text
    stored = world.call("GET", f"/entities/acme/sources/{source['id']}")
    assert (stored["name"], stored["project"], stored["path"]) == ("renamed source", None, source["path"])
    assert stored["events"][0]["data"]["project"] == "elsewhere"
    late = admin.post(f"{path}/edit", data=changed)
    assert late.status_code == 422 and "somebody else changed this source" in late.text
    assert 'value="renamed source"' in late.text

    for change, words in (("disable", "become no events"), ("enable", "become events again")):
        assert words in admin.post(f"{path}/{change}", follow_redirects=True).text
        assert world.call("GET", f"/entities/acme/sources/{source['id']}")["enabled"] is (change == "enable")
    audit = admin.get(f"/console/e/acme/settings/audit?target={source['id']}").text
    assert "source: create" in audit and "source: update" in audit and f'href="{path}"' in audit
    assert "Delete the source" in admin.get(f"{path}/delete").text
    assert admin.post(f"{path}/delete").headers["location"] == f"{SOURCES}?done=deleted"
    assert admin.get(path).status_code == 404
    refused = httpx.post(f"{world.url}{source['path']}", json={}, timeout=PATIENCE_SECONDS)
    assert refused.status_code == 401


def test_an_edit_leaves_a_disabled_source_disabled(world: World, admin: httpx.Client) -> None:
    path = _made(admin, name="held source")
    admin.post(f"{path}/disable")
    tried = {**FIELDS, "try_body": '{"event": "new", "model": "llm", "id": "1"}', "test": "1"}
    for ask in ("test", "edit"):
        assert "as long as it is, its requests are answered" in admin.post(f"{path}/{ask}", data=tried).text
    saved = admin.post(f"{path}/edit", data={**FIELDS, "name": "held source 2", "revision": _revision(admin, path)})
    assert saved.status_code == 303
    stored = world.call("GET", f"/entities/acme/sources/{path.rpartition('/')[2]}")
    assert (stored["name"], stored["enabled"]) == ("held source 2", False)
    admin.post(f"{path}/delete")


@pytest.mark.parametrize(
    ("wrong", "field", "words"),
    [
        ({"name": "a/b"}, "name", "letters, digits"),
        ({"name": "comet"}, "name", "no other source of the entity"),
        ({"kind": ""}, "kind", "must be chosen"),
        ({"kind": "unheard-of"}, "kind", "must be 'mlflow', 'github'"),
        ({"secret": ""}, "secret", "must be chosen"),
        ({"secret": "NOTHING"}, "secret", "secret"),
        ({"former_secret": "COMET"}, "former_secret", "another secret"),
        ({"verify": "{"}, "verify", "is not JSON: see line 1"),
        ({"verify": "{}"}, "verify", "one of"),
        ({"events": "[{]"}, "events", "is not JSON"),
        ({"events": "0"}, "events", "list"),
        ({"events": RULE.replace("CREATE_ARTIFACT", "NOTHING")}, "events", "type"),
        ({"events": RULE.replace("body.model", "nobody.model")}, "events", "0"),
    ],
)
def test_what_is_wrong_is_told_at_its_field(
    world: World, admin: httpx.Client, wrong: dict[str, str], field: str, words: str
) -> None:
    before = world.call("GET", "/entities/acme/sources")
    sent = {**FIELDS, **wrong}
    refused = admin.post(f"{SOURCES}/new", data=sent)
    (told,) = re.findall(rf'id="e-{field}">.*?</svg>(.*?)</p>', refused.text)
    assert refused.status_code == 422 and words in html.unescape(told), told
    (label,) = re.findall(rf'<label for="f-{field}">([^<]+?) ?<', refused.text)
    (called,) = re.findall(rf'<a href="#f-{field}">(.*?)</a>', refused.text)
    assert called == label.lower(), "the summary calls a field as its label does"
    if "name" not in wrong:
        assert 'value="made source"' in refused.text, "what was typed is kept"
    assert world.call("GET", "/entities/acme/sources") == before


def test_a_request_is_tried_in_the_form_and_nothing_is_kept(world: World, admin: httpx.Client) -> None:
    before = world.call("GET", "/entities/acme/sources")
    request = {"try_headers": "X-Any: thing\r\n", "try_body": '{"event": "new", "model": "llm", "id": "77"}'}
    blank = {**FIELDS, "name": "", "secret": "", "test": "1"}
    made = html.unescape(admin.post(f"{SOURCES}/new", data={**blank, **request}).text)
    assert "is disabled" not in made
    assert "It would become 1 event" in made and '"/in/unsaved"' in made and '"name": "llm"' in made
    assert '{"event": "new", "model": "llm", "id": "77"}' in made, "the request stays in the form"
    none = admin.post(f"{SOURCES}/new", data={**blank, "try_body": '{"event": "old"}'})
    assert "It would become no event" in none.text and "no rule&#39;s `when` holds" in none.text
    wrong = admin.post(f"{SOURCES}/new", data={**blank, "try_body": "{"})
    assert wrong.status_code == 200 and "It would be refused" in wrong.text and "is not JSON" in wrong.text
    line = admin.post(f"{SOURCES}/new", data={**blank, **request, "try_headers": "no colon"})
    assert line.status_code == 422 and 'id="e-try_headers"' in line.text and "line 1" in line.text
    many = "\n".join(f"X-{number}: x" for number in range(51))
    assert "at most 50 headers" in admin.post(f"{SOURCES}/new", data={**blank, "try_headers": many}).text
    assert world.call("GET", "/entities/acme/sources") == before

    comet = f"{SOURCES}/{world.ids['comet']}"
    edited = {**FIELDS, "name": "comet", "events": RULE.replace('"ci"', '"typed here"'), "test": "1", **request}
    tried = html.unescape(admin.post(f"{comet}/edit", data=edited).text)
    assert '"author": "typed here"' in tried and f'"/in/{world.ids["comet"]}"' in tried
    history = world.call("GET", f"/entities/acme/sources/{world.ids['comet']}/requests")["items"]
    assert len(history) == 2, "a trial is in no history"


def test_members_try_requests_as_over_rest(world: World) -> None:
    path = f"{SOURCES}/{world.ids['comet']}"
    with world.visitor("member") as member:
        page = member.get(path).text
        assert f'href="{path}/test"' in page and f"{path}/edit" not in page and f"{path}/delete" not in page
        assert "<button disabled>" in member.get(SOURCES).text
        tried = member.post(f"{path}/test", data={"try_body": f'{{"event": "new", "text": "{CANARY}"}}'})
        assert tried.status_code == 200 and "It would be refused" in tried.text
        assert member.post(f"{path}/edit", data={**FIELDS, "test": "1"}).status_code == 403


def test_a_new_secret_takes_over_without_a_gap(world: World, admin: httpx.Client) -> None:
    path = _made(admin, name="rotated source")
    form = {**FIELDS, "name": "rotated source", "revision": _revision(admin, path)}
    stored = admin.post(f"{path}/edit", data={**form, "new_secret_name": "COMET_NEXT", "store_secret": "generate"})
    text = html.unescape(stored.text)
    (value,) = set(re.findall(r"whsec_[\w+/=]{44}", text))
    assert "Enter it at the service" in text and "receiver" not in text
    chosen = dict(re.findall(r'<select id="f-(\w*secret)"(?:(?!</select>).)*value="(\w+)" selected', text, re.DOTALL))
    assert chosen == {"secret": "COMET_NEXT", "former_secret": "COMET"}
    saved = admin.post(f"{path}/edit", data={**form, **chosen})
    assert saved.status_code == 303, saved.text
    assert [_sent(world, path, token, 100 + at) for at, token in enumerate((SECRETS["COMET"], value))] == [202, 202]
    page = admin.get(path).text
    assert "COMET_NEXT" in page and "is accepted as well" in page and value not in page
    assert value not in admin.get(f"{path}/edit").text
    out = {**form, "secret": "COMET_NEXT", "former_secret": "", "revision": _revision(admin, path)}
    assert admin.post(f"{path}/edit", data=out).status_code == 303
    assert [_sent(world, path, token, 200 + at) for at, token in enumerate((SECRETS["COMET"], value))] == [401, 202]
    admin.post(f"{path}/delete")
    world.call("DELETE", "/entities/acme/secrets/COMET_NEXT")


def test_what_senders_control_is_text_in_the_history(world: World, admin: httpx.Client) -> None:
    """A body, its values, the headers that are kept, and what is said of them when they are refused."""
    rule = RULE.replace('"ci"', '"${body.author}"')
    path = _made(admin, name="hostile source", events=rule)
    source = world.call("GET", f"/entities/acme/sources/{path.rpartition('/')[2]}")
    plain = HOSTILE.encode("latin-1", "replace").decode("latin-1")
    headers = {"X-Token": SECRETS["COMET"], "User-Agent": plain[:190], "X-GitHub-Event": plain[:190]}
    bodies: list[object] = [
        {"event": HOSTILE},
        {"event": "new", "model": HOSTILE[:300], "id": HOSTILE[:200], "author": HOSTILE[:200]},
        {"event": "new", "model": [HOSTILE], "id": HOSTILE, "author": {HOSTILE: 1}},
        [HOSTILE],
    ]
    for body in bodies:
        httpx.post(f"{world.url}{source['path']}", json=body, headers=headers, timeout=PATIENCE_SECONDS)
    httpx.post(f"{world.url}{source['path']}?{HOSTILE}", content=HOSTILE.encode(), headers=headers)
    httpx.post(f"{world.url}{source['path']}", content=HOSTILE.encode(), headers={**headers, "X-Token": HOSTILE[:60]})
    kept = world.call("GET", f"/entities/acme/sources/{source['id']}/requests")["items"]
    assert len(kept) >= len(bodies) + 1 and any(one["events"] for one in kept)
    for text in (
        admin.get(path).text,
        admin.post(f"{path}/test", data={"try_headers": f"X-A: {HOSTILE}", "try_body": HOSTILE}).text,
        admin.post(f"{path}/test", data={"try_body": '{"event": "new", "id": "<svg onload=x>", "model": "<b>"}'}).text,
        admin.post(f"{SOURCES}/new", data=dict.fromkeys((*FIELDS, "try_headers", "try_body"), HOSTILE)).text,
    ):
        assert "<script>window" not in text and "<svg onload" not in text and "<b>" not in text
        assert f'"{CANARY}' not in text and "<base" not in text
        assert SECRETS["COMET"] not in text
    assert "&lt;script&gt;" in admin.get(path).text
    admin.post(f"{path}/delete")
