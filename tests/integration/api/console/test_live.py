"""Replays of all that match, what open pages ask for again, and the alerts on top of every page."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import Engine, event, update

from dispatcher.api import remembered
from dispatcher.console.alerts import LagWatch
from dispatcher.console.quiet import NEWEST_SECONDS, QuietEntities
from shared.domain.health_checks import OPEN_SECONDS
from shared.domain.ids import IdKind, decode_id
from shared.storage.database.transactions import write_transaction
from shared.storage.schema.tables import webhooks
from tests.integration.api.console.world import World
from tests.integration.processes import wait_until
from tests.integration.scene import alias_event

ENTITY = "/console/e/acme"
LIST = f"{ENTITY}/deliveries"


@pytest.fixture(scope="module")
def admin(world: World) -> Iterator[httpx.Client]:
    with world.visitor("admin") as visitor:
        yield visitor


def shown_form(page: str) -> dict[str, str]:
    """The form with which a page asks whether to replay."""
    (form,) = re.findall(r'<form method="post" action="/console/e/acme/deliveries/replay".*?</form>', page, re.S)
    return {name: html.unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', form)}


def test_what_was_counted_is_replayed_once_and_can_be_stopped(world: World, admin: httpx.Client) -> None:
    world.publish(*(alias_event("gone", event_id=f"to-replay-{number}", collection="many") for number in range(3)))
    none = admin.get(f"{LIST}/replay")
    assert "Choose at least one filter" in none.text
    page = admin.get(f"{LIST}/replay?collection=many&status=refused").text
    form = shown_form(page)
    assert form["count"] == "3" and form["until"] and form["unreplayed"] == "1"
    assert re.search(r"Replay 3 deliveries</button>", page)
    wrong = admin.post(f"{LIST}/replay", data={**form, "count": "2", "once": ""})
    assert wrong.status_code == 422 and "look at the new number" in wrong.text
    odd = admin.post(f"{LIST}/replay", data={**form, "rate": "fast", "once": ""})
    assert odd.status_code == 422 and 'id="e-rate"' in odd.text
    # One that comes meanwhile is not among those that were counted.
    world.publish(alias_event("gone", event_id="to-replay-late", collection="many"))
    begun = [admin.post(f"{LIST}/replay", data={**form, "rate": "1/min"}) for _ in range(2)]
    assert [one.status_code for one in begun] == [303, 303]
    assert begun[0].headers["location"] == begun[1].headers["location"]
    address = begun[0].headers["location"].partition("?")[0]
    progress = admin.get(address).text
    assert "0 of 3 have ended" in progress and "Stop it" in progress
    (again,) = re.findall(r'data-from="([^"]+/replays/[^"]+)"', progress)
    assert admin.get(again).status_code == 204
    with world.visitor("member") as member:
        assert "Stop it" not in member.get(address).text
    world.scene.deliver()
    moved = admin.get(again)
    assert moved.status_code == 200 and "1 of 3 have ended" in moved.text
    assert admin.post(f"{address}/stop").headers["location"].endswith("?done=stopped")
    ended = admin.get(address).text
    assert "All of them have ended" in ended and "Stop it" not in ended and 'live-progress" data-live' not in ended
    left = shown_form(admin.get(f"{LIST}/replay?collection=many&status=refused").text)
    assert left["count"] == "2"  # the late one, and the one that was replayed and refused again
    every = shown_form(admin.get(f"{LIST}/replay?collection=many&status=refused&counted=1").text)
    assert every["count"] == "5" and "unreplayed" not in every
    assert admin.get(f"{LIST}/replay?status=dead&since=soon").status_code == 422
    assert "No delivery matches" in admin.get(f"{LIST}/replay?event=nothing").text


def quiet_for_all(world: World) -> None:
    """Let pass the time for which it is remembered that nothing is new."""
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > NEWEST_SECONDS, "the end of what is remembered")


def test_who_lost_the_right_to_look_is_told_nothing(world: World) -> None:
    quiet = QuietEntities()
    quiet.remember_newest("acme", 5)
    assert not quiet.has_no_news("mine", "acme", 5)
    quiet.admit("mine", "acme", 1)
    assert quiet.has_no_news("mine", "acme", 5) and quiet.has_no_news("mine", "acme", 6)
    assert not quiet.has_no_news("mine", "acme", 4)
    assert not quiet.has_no_news("other", "acme", 5) and not quiet.has_no_news("mine", "other", 5)
    quiet.remember_alerts("mine", "acme", "", "none")
    assert quiet.has_no_alert("mine", "acme", "", "none")
    for other in (("mine", "acme", "", "abc"), ("mine", "acme", "hidden", "none"), ("other", "acme", "", "none")):
        assert not quiet.has_no_alert(*other)
    with world.visitor("outsider") as outsider, world.visitor(None) as nobody:
        assert outsider.get(f"{LIST}/news").status_code == 404
        assert nobody.get(f"{LIST}/news").status_code == 303


def test_who_lost_a_role_is_told_so_by_the_next_poll_after_five_seconds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world.call("POST", "/keys", {"name": "leaver", "entity": "acme", "role": "member"}, key="root")
    world.keys["leaver"] = made["key"]
    with world.visitor("leaver") as leaver:
        page = leaver.get(LIST).text
        asked = [html.unescape(one) for one in re.findall(r'data-from="([^"]+/(?:news|alerts)[^"]*)"', page)]
        assert len(asked) == 2 and [leaver.get(one).status_code for one in asked] == [204, 204]
        world.call("DELETE", f"/keys/{made['id']}", key="root")
        later = time.monotonic() + 5
        monkeypatch.setattr(remembered, "monotonic", lambda: later + 1)
        assert [leaver.get(one).status_code for one in asked] == [303, 303]


def test_a_page_that_is_left_open_costs_no_statement_and_no_thread(world: World, admin: httpx.Client) -> None:
    page = admin.get(LIST).text
    asked = [html.unescape(one) for one in re.findall(r'data-from="([^"]+/(?:news|alerts)[^"]*)"', page)]
    assert len(asked) == 2 and all(admin.get(one).status_code == 204 for one in asked)
    statements: list[str] = []
    see = lambda _c, _k, statement, *_more: statements.append(statement)  # noqa: E731
    event.listen(Engine, "before_cursor_execute", see)
    try:
        # What is remembered ends at some time: one of a few in a row falls within it.
        begun = []
        for _ in range(5):
            statements.clear()
            begun.append([admin.get(one) for one in asked])
            if not statements:
                break
    finally:
        event.remove(Engine, "before_cursor_execute", see)
    assert statements == []
    for answer in begun[-1]:
        assert answer.status_code == 204 and answer.headers["cache-control"] == "no-store"
        assert "nonce-" in answer.headers["content-security-policy"]
    with world.visitor(None) as nobody:
        assert [nobody.get(one).status_code for one in asked] == [303, 303]
    for odd in ("known=x", "known=", "known=" + "9" * 400, "known=%ff"):
        assert admin.get(f"{LIST}/news?{odd}").status_code in (204, 422)


def test_many_new_deliveries_are_counted_no_more(world: World, admin: httpx.Client) -> None:
    (ask,) = re.findall(r'data-from="([^"]+/news[^"]*)"', admin.get(f"{LIST}?collection=fresh").text)
    world.publish(*(alias_event("recorded", event_id=f"many-{n}", collection="fresh") for n in range(21)))
    quiet_for_all(world)
    told = admin.get(html.unescape(ask)).text
    assert "20+ new deliveries." in told and "data-live" not in told


def test_an_open_list_is_told_how_many_are_new(world: World, admin: httpx.Client) -> None:
    page = admin.get(f"{LIST}?collection=fresh").text
    (ask,) = re.findall(r'data-from="([^"]+/news[^"]*)"', page)
    ask = html.unescape(ask)
    assert admin.get(ask).status_code == 204
    world.publish(alias_event("gone", event_id="news-1", collection="fresh"))
    quiet_for_all(world)
    told = admin.get(ask)
    assert "1 new delivery." in told.text and f'href="{LIST}?collection=fresh"' in told.text
    (ask,) = re.findall(r'data-from="([^"]+/news[^"]*)"', told.text)
    ask = html.unescape(ask)
    assert admin.get(ask).status_code == 204
    world.publish(alias_event("gone", event_id="news-2", collection="elsewhere"))
    quiet_for_all(world)
    assert admin.get(ask).status_code == 204, "one new delivery was told already"
    for wrong in (f"{LIST}/news?since=soon", f"{LIST}/news?automation=nothing"):
        assert admin.get(wrong).status_code == 204
    assert admin.get(f"{LIST}/news?after=x").status_code == 422
    older = admin.get(f"{LIST}?cursor=YWZ0ZXIgNQ").text
    assert "/news" not in older


def test_a_delivery_that_waits_is_asked_for_until_it_ends(world: World, admin: httpx.Client) -> None:
    waiting = admin.get(f"{LIST}/{world.delivery(status='pending', webhook='retried-hook')}").text
    (ask,) = re.findall(r'id="live-line" data-live="2" [^>]*data-from="([^"]+)"', waiting)
    assert admin.get(ask).status_code == 204
    assert 'data-live="2"' not in admin.get(f"{LIST}/{world.delivery(status='dead')}").text


def test_what_gets_nothing_stands_on_top_of_every_page_until_it_is_hidden(world: World) -> None:
    number = decode_id(IdKind.WEBHOOK, world.ids["gone-hook"])
    opened = datetime.now(UTC) - timedelta(seconds=OPEN_SECONDS + 60)

    def store(**values: object) -> None:
        with write_transaction(world.scene.process.engine) as connection:
            connection.execute(update(webhooks).where(webhooks.c.id == number).values(**values))

    try:
        with world.visitor("member") as member, world.visitor("outsider") as outsider:
            (ask,) = re.findall(r'data-from="(/console/e/acme/alerts[^"]*)"', member.get(ENTITY).text)
            assert member.get(ask).status_code == 204
            store(circuit_opened_at=opened)
            member.get(ENTITY)  # which tells the process, as a while that passes does
            told = html.unescape(member.get(ask).text)
            assert "its circuit has been open since" in told and "gone-hook" in told
            assert "gone-hook" not in outsider.get("/console/e/other").text
            for path in ("/automations", "/settings/secrets", "/deliveries"):
                assert 'class="alert ' in member.get(f"{ENTITY}{path}").text, path
            (key,) = re.findall(r'name="key" value="(\w+)"', member.get(ENTITY).text)
            hidden = member.post("/console/alerts/hide", data={"key": key, "back": f"{ENTITY}/automations"})
            assert hidden.headers["location"] == f"{ENTITY}/automations"
            assert 'class="alert ' not in member.get(ENTITY).text
            store(circuit_opened_at=None, enabled=False, disabled_reason="answered 410", updated_at=opened)
            page = html.unescape(member.get(ENTITY).text)
            assert "was disabled" in page and "answered 410" in page
            for odd in ("x", "", "../..", "a" * 12):
                member.post("/console/alerts/hide", data={"key": odd, "back": "//evil.example"})
            assert 'class="alert ' in member.get(ENTITY).text
    finally:
        store(circuit_opened_at=None, enabled=True, disabled_reason=None)


def test_evaluation_that_lags_is_told(world: World, admin: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LagWatch, "current", lambda *_: timedelta(minutes=4))
    assert "Evaluation is 4 min behind" in admin.get(ENTITY).text


def test_the_lag_is_read_once_in_a_while_and_nobody_waits_for_a_server_that_is_away(world: World) -> None:
    watch, engine = LagWatch(), world.scene.process.engine
    assert watch.current(world.settings, engine) == timedelta(0)
    away = world.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    assert watch.current(away, engine) == timedelta(0)  # as of a moment ago
    assert LagWatch().current(away, engine) is None


def test_what_was_counted_is_not_looked_at_again(world: World, admin: httpx.Client) -> None:
    """In a busy entity, too: an open list with a filter looks at what came since it asked last, and no more."""
    (ask,) = re.findall(r'data-from="([^"]+/news[^"]*)"', admin.get(f"{LIST}?collection=mine").text)
    ask = html.unescape(ask)
    for number in range(3):
        world.publish(alias_event("gone", event_id=f"others-{number}", collection="others"))
        wait_until(lambda: "content-location" in admin.get(ask).headers, "the next question")  # noqa: B023
        answer = admin.get(ask)
        assert answer.status_code == 204
        before, ask = ask, answer.headers["content-location"]
        assert _known(ask) > _known(before) and "counted=0" in ask and "collection=mine" in ask
    world.publish(alias_event("gone", event_id="mine-1", collection="mine"))
    wait_until(lambda: admin.get(ask).status_code == 200, "the news")
    told = admin.get(ask).text
    assert "1 new delivery" in told and "counted=1" in told
    world.publish(alias_event("gone", event_id="mine-2", collection="mine"))
    (ask,) = re.findall(r'data-from="([^"]+/news[^"]*)"', told)
    wait_until(lambda: "2 new deliveries" in admin.get(html.unescape(ask)).text, "the news after those")
    assert admin.get(f"{LIST}/news?counted=21").status_code == 422


def _known(ask: str) -> int:
    (number,) = re.findall(r"known=(\d+)", ask)
    return int(number)
