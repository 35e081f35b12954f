"""Events, revisions, projects and metrics as pages: what they show, and what may be done from there."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.api.console.test_pages import ENTITY, filled
from tests.integration.api.console.world import World
from tests.integration.scene import alias_event, metric_event


@pytest.fixture(scope="module")
def member(world: World) -> Iterator[httpx.Client]:
    """A member's browser without scripts."""
    with world.visitor("member") as member:
        yield member


@pytest.fixture(scope="module")
def admin(world: World) -> Iterator[httpx.Client]:
    """An administrator's browser without scripts."""
    with world.visitor("admin") as admin:
        yield admin


def _made(world: World, name: str) -> str:
    body = {"name": name, "event": "LINK_ARTIFACT", "action": {"no_op": True}, "description": "the first text"}
    number: str = world.call("POST", "/entities/acme/automations", body)["id"]
    return number


def test_events_are_listed_by_what_they_are_about(member: httpx.Client) -> None:
    page = member.get(f"{ENTITY}/events?type=RUN_METRIC&run=r1").text
    assert "step-4" in page and "promote-0" not in page and "A run logged metrics" in page
    none = member.get(f"{ENTITY}/events?author=nobody").text
    assert "No kept event matches these filters" in none
    for wrong in ("type=NOTHING", "since=yesterday", "cursor=x"):
        answer = member.get(f"{ENTITY}/events?{wrong}")
        assert answer.status_code == 422 and 'role="alert"' in answer.text, wrong


def test_an_event_tells_what_each_automation_made_of_it(world: World, member: httpx.Client) -> None:
    page = html.unescape(member.get(f"{ENTITY}/events/one?id=promote-0").text)
    assert f"/deliveries/{world.delivery(event='promote-0')}" in page
    assert page.index(">Fired<") < page.index(">No match<")
    assert 'alias $eq "broken"' in page and '← "production"' in page
    assert (
        "/automations/new?event=ADD_ARTIFACT_ALIAS&project=wandb-registry-model&collection=llm&alias=production" in page
    )
    assert member.get(f"{ENTITY}/events/one?id=never").status_code == 404
    assert member.get(f"{ENTITY}/events/one").status_code == 422


def test_a_link_from_an_event_fills_in_the_editor(member: httpx.Client) -> None:
    page = member.get(f"{ENTITY}/automations/new?event=ADD_ARTIFACT_ALIAS&project=wandb-registry-model&alias=prod").text
    assert 'value="alias"' in page and 'value="prod"' in page and 'value="wandb-registry-model"' in page


def test_the_bell_of_a_plot_fills_in_the_editor(member: httpx.Client) -> None:
    page = html.unescape(member.get(f"{ENTITY}/metrics?project=digits").text)
    (bell,) = re.findall(r'href="([^"]+)"[^>]*>(?:<svg.*?</svg>)<span[^>]*>Create an automation for accuracy<', page)
    assert bell.endswith("/automations/new?event=RUN_METRIC&project=digits&metric=accuracy&threshold=1")
    editor = member.get(bell).text
    assert re.search(r'name="condition.metric"[^>]*value="accuracy"', editor)
    assert re.search(r'name="condition.threshold"[^>]*value="1.0"', editor)
    for threshold in ("nan", "x", "", "1e999"):
        assert (
            member.get(f"{ENTITY}/automations/new?event=RUN_METRIC&metric=a&threshold={threshold}").status_code == 200
        )


def test_metrics_are_drawn_as_they_were_logged(world: World, member: httpx.Client) -> None:
    world.publish(*(metric_event(step, run="odd", loss="NaN" if step % 2 else step / 10) for step in range(4)))
    page = member.get(f"{ENTITY}/metrics?project=digits&metric=loss&run=odd").text
    assert page.count("not a number") == 2 and 'class="line s0"' in page
    assert "No run of this project logged" in member.get(f"{ENTITY}/metrics?project=digits&metric=none").text
    assert member.get(f"{ENTITY}/metrics?project=digits&since=soon").status_code == 422
    assert member.get(f"{ENTITY}/metrics?project=never").status_code == 404


def test_a_series_shows_where_it_fired(world: World, member: httpx.Client) -> None:
    address = filled(world, "/automations/{accuracy}/series")
    assert ">r1<" in member.get(address).text
    page = member.get(f"{address}?project=digits&run=r1").text
    assert page.count('class="mark fired"') == 1 and 'class="bound"' in page and 'class="warm"' in page
    assert "windows were filling up to step 2" in page
    assert "saw nothing of this run" in member.get(f"{address}?project=digits&run=never").text
    assert "no metric conditions" in member.get(filled(world, "/automations/{record}/series")).text


def test_projects_registries_and_collections_lead_to_their_automations(world: World, member: httpx.Client) -> None:
    world.publish(alias_event("x", collection="bert", project="nlp"))
    page = member.get(f"{ENTITY}/projects").text
    assert ">Registry<" in page and ">Project<" in page and 'project?name=nlp"' in page
    registries = member.get(f"{ENTITY}/projects?kind=registry").text
    assert "project?name=wandb-registry-model" in registries and "project?name=nlp" not in registries
    assert "project?name=nlp" in member.get(f"{ENTITY}/projects?text=NL").text
    registry = member.get(f"{ENTITY}/project?name=wandb-registry-model").text
    assert "deploy-on-production" in registry and "/automations/new?project=wandb-registry-model" in registry
    assert "Metrics" not in registry
    inside = html.unescape(member.get(f"{ENTITY}/project?name=wandb-registry-model&tab=collections").text)
    assert "/automations/new?project=wandb-registry-model&collection=llm" in inside
    collection = member.get(f"{ENTITY}/collection?project=wandb-registry-model&name=llm").text
    assert collection.index("deploy-on-production") < collection.index("Automations that cover it")
    covering = collection.partition("Automations that cover it")[2]
    assert "once a day" in covering and "deploy-on-production" not in covering.partition("Newest deliveries")[0]
    other = member.get(f"{ENTITY}/collection?project=nlp&name=bert").text
    assert "once a day" in other and ">deploy-on-production<" not in other
    for path in (
        "/project?name=never",
        "/project",
        "/collection?project=nlp&name=never",
        "/collection?project=x&name=y",
    ):
        assert member.get(f"{ENTITY}{path}").status_code == 404


def test_an_automation_s_edits_are_told_and_restored(world: World, member: httpx.Client) -> None:
    number = _made(world, "much changed")
    world.call("PATCH", f"/entities/acme/automations/{number}", {"description": "the second text"})
    path = f"{ENTITY}/automations/{number}"
    listed = member.get(f"{path}/revisions").text
    assert "<strong>Changed</strong>: <code>description</code>" in listed and "acme/admin" in listed
    newest, first = re.findall(rf'href="{path}/revisions/(\d+)"', listed)
    shown = member.get(f"{path}/revisions/{newest}").text
    assert "the first text" in shown and "the second text" in shown and "This is what it is now" in shown
    assert member.post(f"{path}/revisions/{first}/restore").headers["location"] == f"{path}?done=restored"
    assert world.call("GET", f"/entities/acme/automations/{number}")["description"] == "the first text"
    world.call("DELETE", f"/entities/acme/automations/{number}")


def test_what_was_deleted_says_so_and_lives_again(world: World, member: httpx.Client) -> None:
    number = _made(world, "deleted by mistake")
    world.call("DELETE", f"/entities/acme/automations/{number}")
    path = f"{ENTITY}/automations/{number}"
    gone = member.get(path)
    assert gone.status_code == 404
    assert "was deleted</h1>" in gone.text and "acme/admin" in gone.text and "the first text" in gone.text
    assert member.get(f"{ENTITY}/deliveries?automation={number}").status_code == 200
    (restore,) = re.findall(r'action="([^"]+/restore)"', gone.text)
    taken = _made(world, "deleted by mistake")
    refused = member.post(restore)
    assert refused.status_code == 422 and "It can&#39;t be restored" in refused.text
    world.call("DELETE", f"/entities/acme/automations/{taken}")
    assert member.post(restore, follow_redirects=True).status_code == 200
    world.call("DELETE", f"/entities/acme/automations/{number}")
    assert "was deleted" not in member.get(f"{ENTITY}/automations/aut_987654").text


def test_a_webhook_s_edits_are_restored_by_administrators(
    world: World, member: httpx.Client, admin: httpx.Client
) -> None:
    body = {"name": "much changed", "url": f"{world.scene.receiver.url}/changed"}
    number = world.call("POST", "/entities/acme/webhooks", body)["id"]
    world.call("PATCH", f"/entities/acme/webhooks/{number}", {"paused": True})
    path = f"{ENTITY}/settings/webhooks/{number}"
    (_, first) = re.findall(rf'href="{path}/revisions/(\d+)"', admin.get(f"{path}/revisions").text)
    assert "needs the role admin" in member.get(f"{path}/revisions/{first}").text
    assert member.post(f"{path}/revisions/{first}/restore").status_code == 403
    assert "what it was then" in admin.post(f"{path}/revisions/{first}/restore", follow_redirects=True).text
    assert world.call("GET", f"/entities/acme/webhooks/{number}")["paused"] is False
    world.call("DELETE", f"/entities/acme/webhooks/{number}")
    gone = member.get(path)
    assert gone.status_code == 404 and "The webhook" in gone.text and "<button disabled>" in gone.text
    assert "/restore" in admin.get(path).text
