"""What stands before each page: requests of other sites change nothing, and every answer confines browsers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute

import dispatcher.console
from dispatcher.app import create_app
from dispatcher.console.app import ROUTERS
from tests.integration.api.console.world import PATIENCE_SECONDS, World

CROSS_SITE: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": ""},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {},
]


def changing_routes() -> Iterator[tuple[str, str]]:
    """The method and path of each route of the console that changes something."""
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            for method in (route.methods or set()) - {"GET", "HEAD"}:
                yield method, f"/console{route.path}"


def filled(world: World, path: str) -> str:
    values = {
        "entity": "acme",
        "automation_id": world.ids["record"],
        "webhook_id": world.ids["paused-hook"],
        "delivery_id": world.delivery(status="dead"),
        "session_id": "ses_1",
        "replay_id": world.ids["replay"],
        "slack_id": world.ids["alerts"],
        "source_id": world.ids["comet"],
        "user": "nobody",
        "name": "DEPLOY_TOKEN",
        "user_id": "acme/member",
        "key_id": "key_2",
        "change": "resume",
        "switched": "disable",
        "target_id": world.ids["record"],
        "number": str(world.first_revision("record")),
    }
    return re.sub(r"{(\w+)}", lambda match: values[match[1]], path)


def dump(world: World) -> str:
    """Everything that a page could change, but for when keys and sessions were used."""
    with httpx.Client(
        headers={"Authorization": f"Bearer {world.keys['root']}"}, base_url=world.url, timeout=PATIENCE_SECONDS
    ) as client:
        paths = ["automations", "webhooks", "sources", "secrets", "members", "deliveries", "invitations"]
        texts = [client.get(f"/v1/entities/acme/{path}?limit=500").text for path in paths]
        keys = [(one["id"], one["name"]) for one in client.get("/v1/keys?limit=500").json()["items"]]
    return "\n".join([*texts, str(keys)])


@pytest.mark.parametrize("headers", CROSS_SITE, ids=str)
def test_pages_of_other_sites_change_nothing(world: World, headers: dict[str, str]) -> None:
    routes = sorted(changing_routes())
    assert len(routes) > 12
    with world.visitor("admin") as visitor:
        del visitor.headers["Sec-Fetch-Site"]
        before = dump(world)
        for method, path in routes:
            answer = visitor.request(method, filled(world, path), data={"name": "X"}, headers=headers)
            assert answer.status_code == 403, (method, path)
        assert dump(world) == before
        assert visitor.get("/console/me").status_code == 200


def test_a_page_without_fetch_metadata_may_send_forms_by_its_origin(world: World) -> None:
    """As over plain http from another machine, where browsers send no `Sec-Fetch-Site`."""
    with world.visitor("member") as visitor:
        del visitor.headers["Sec-Fetch-Site"]
        answer = visitor.post("/console/preferences", data={"theme": "dark"}, headers={"Origin": world.url})
        assert answer.status_code == 303
        assert 'data-theme="dark"' in visitor.get("/console/me").text


def test_every_answer_confines_the_browser(world: World) -> None:
    with world.visitor("admin") as visitor:
        answers = {
            path: visitor.get(path)
            for path in ("/console/me", "/console/e/acme", "/console/nothing", "/console/e/none", "/console/sign-in")
        }
        answers["static"] = visitor.get("/console/static/console.css?v=1")
        answers["no file"] = visitor.get("/console/static/nothing.js")
        answers["refused"] = visitor.post("/console/preferences", headers={"Sec-Fetch-Site": "cross-site"})
        answers["no form"] = visitor.post("/console/preferences", json={})
        answers["not allowed"] = visitor.delete("/console/me")
        assert visitor.post("/console/preferences", data={"x": "x" * (2 << 20)}).status_code == 413
        answers["bad page"] = visitor.get("/console/e/acme/deliveries?cursor=x")
    nonces = set()
    for what, answer in answers.items():
        policy = answer.headers["content-security-policy"]
        nonce = re.fullmatch(
            r"default-src 'none'; script-src 'nonce-([\w-]{22})'; style-src 'self'; img-src 'self'; "
            r"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
            r"require-trusted-types-for 'script'; trusted-types htmx hookline",
            policy,
        )
        assert nonce is not None, (what, policy)
        nonces.add(nonce[1])
        assert answer.headers["x-content-type-options"] == "nosniff", what
        assert answer.headers["x-frame-options"] == "DENY", what
        assert answer.headers["referrer-policy"] == "same-origin", what
        assert answer.headers["cross-origin-opener-policy"] == "same-origin", what
        kept = "public, max-age=31536000, immutable" if what == "static" else "no-cache" if what == "no file" else ""
        assert answer.headers["cache-control"] == (kept or "no-store"), what
    assert len(nonces) == len(answers)
    assert answers["no form"].status_code == 415
    assert (answers["not allowed"].status_code, answers["bad page"].status_code) == (405, 422)


def test_nothing_changes_by_looking(world: World) -> None:
    with world.visitor("root") as visitor:
        before, waiting = dump(world), ["/console/e/acme", "/console/me", "/console/admin/health"]
        seen: set[str] = set()
        kinds: Counter[str] = Counter()
        while waiting:
            path = waiting.pop()
            answer = visitor.get(path)
            known = re.search(r"has no|was deleted", answer.text) and re.search(r"(aut|wh|slk)_\d+", path)
            gone = answer.status_code == 404 and known
            assert answer.status_code in (200, 303) or gone, (path, answer.status_code)
            links = re.findall(r'(?:href|src)="(/console/[^"#]*)', answer.text)
            for link in {one.replace("&amp;", "&") for one in links} - seen:
                seen.add(link)
                kind = _kind_of(link)
                kinds[kind] += 1
                if kinds[kind] <= 3:
                    waiting.append(link)
        assert len(seen) > 40
        assert dump(world) == before


def _kind_of(link: str) -> str:
    """What a link has in common with those of other rows, ranges and pages: three of a kind are followed."""
    path, _, query = link.partition("?")
    return re.sub(r"\w*_\d+|\d+", "#", path) + "?" + "&".join(sorted(re.findall(r"(\w+)=", query)))


def test_only_the_console_s_own_address_answers(world: World) -> None:
    answer = httpx.get(f"{world.url}/", timeout=PATIENCE_SECONDS)
    assert answer.headers["location"] == "/console/"
    assert httpx.get(f"{world.url}/console", timeout=PATIENCE_SECONDS).headers["location"] == "/console/"
    assert (
        httpx.get(f"{world.url}/console/", timeout=PATIENCE_SECONDS).headers["location"].startswith("/console/sign-in")
    )
    assert "/console" not in httpx.get(f"{world.url}/openapi.json", timeout=PATIENCE_SECONDS).text.replace(
        "console.md", ""
    )


def test_the_console_can_be_left_out(world: World) -> None:
    app = create_app(world.settings.model_copy(update={"console": False}))
    assert not [one for one in app.routes if getattr(one, "path", "").startswith("/console")]


def test_templates_have_nothing_that_the_policy_forbids() -> None:
    folder = Path(dispatcher.console.__file__).parent
    templates = sorted(folder.glob("templates/*.html"))
    assert len(templates) > 10
    forbidden = re.compile(
        r"\|\s*safe|style=|\son\w+=|<style|javascript:|hx-on|js:|<script(?![^>]*nonce=\"{{ nonce }}\"[^>]*src=)"
        r"|\s(?:href|src|action|value|name)={{|srcdoc"
    )
    for path in templates:
        found = forbidden.search(path.read_text())
        assert found is None, f"{path.name}: {found and found[0]}"
        for element in re.findall(r"<[a-z][^>]*\shx-[^>]*>", path.read_text()):
            assert 'hx-nonce="{{ nonce }}"' in element, f"{path.name}: {element}"
    for path in folder.glob("static/*.js"):
        sinks = r"innerHTML|outerHTML|eval\(|new Function|document\.write|insertAdjacent"
        assert not re.search(sinks, path.read_text())
    for path in folder.rglob("*.py"):
        if path.name not in ("rendering.py", "charts.py"):
            assert "Markup(" not in path.read_text(), path
