"""Flows from page to page: how many clicks they take, and that going back, slow answers and lost scripts break none."""

from __future__ import annotations

from contextlib import suppress

import pytest
from playwright.sync_api import Error, Locator, Route

from tests.integration.api.console.browser.conftest import Walk, Window
from tests.integration.receiver import Answer
from tests.integration.scene import alias_event


class Clicks:
    """Clicks that lead to another page, counted."""

    def __init__(self, walk: Walk) -> None:
        self._page = walk.page
        self.count = 0

    def __call__(self, one: Locator) -> None:
        with self._page.expect_navigation():
            one.click()
        self.count += 1

    def link(self, name: str) -> None:
        self(self._page.get_by_role("main").get_by_role("link", name=name, exact=True).first)

    def button(self, name: str) -> None:
        self(self._page.get_by_role("main").get_by_role("button", name=name, exact=True))


def test_why_it_did_not_fire_takes_four_clicks_from_the_overview(walk: Walk) -> None:
    page, click = walk.page, Clicks(walk)
    walk.window.come_back("member")
    walk.window.open("/e/acme")
    click.link("Why did it not fire?")
    page.get_by_label("Automation", exact=True).select_option("deploy-on-production")
    click.button("Explain")
    row = page.get_by_role("list", name="Events in scope, newest first").get_by_role("listitem")
    click(row.filter(has_text="promote-1").get_by_role("link", name="Explain this event").last)
    page.get_by_role("heading", name="No. The filter says no.").wait_for()
    page.get_by_text('← "staging"').first.wait_for()
    assert click.count <= 4


def test_a_failing_webhook_is_mended_and_replayed_in_seven_clicks(walk: Walk) -> None:
    page, world, click = walk.page, walk.window.world, Clicks(walk)
    receiver = world.scene.receiver
    lost = f"lost-{walk.suffix}"
    world.publish(alias_event("broken", event_id=lost))
    walk.window.come_back("admin")
    walk.window.open("/e/acme")
    click(page.get_by_role("region", name="Webhooks that need a look").get_by_role("link", name="broken-hook"))
    click.link(lost)
    page.get_by_text("out of disk").first.wait_for()
    click.link("broken-hook")
    before = receiver.answer
    try:
        receiver.answer = lambda _: Answer(204, body=b"")
        click.link("Test")
        click.button("Test webhook")
        page.get_by_role("heading", name="The endpoint answered 204").wait_for()
        click.link("Replay what failed")
        click(page.get_by_role("button", name="Replay", exact=False))
        page.get_by_role("heading", name="Replay of").wait_for()
        assert click.count <= 7
        sent = len(receiver.requests)
        world.scene.deliver()
        assert {one.path for one in receiver.requests[sent:]} == {"/broken"}
        page.reload()
        page.get_by_role("heading", name="All of them have ended").wait_for()
        assert world.delivery(event=lost, status="delivered")
    finally:
        receiver.answer = before


def test_a_delivery_leads_to_its_event_and_can_be_sent_by_curl(walk: Walk) -> None:
    page, world = walk.page, walk.window.world
    walk.window.come_back("member")
    walk.window.open(f"/e/acme/deliveries/{world.delivery(event='promote-2')}")
    page.get_by_text("Send it by curl").click()
    script = page.get_by_label("webhook_test.sh", exact=True).inner_text()
    assert f"API_ENDPOINT={world.scene.receiver.url}/broken" in script and "PAYLOAD='{\"a\": 1}'" in script
    walk.follow("promote-2", within="About")
    made = page.get_by_role("region", name="What the automations made of it")
    made.get_by_role("link", name="broken", exact=True).wait_for()
    walk.window.open(f"/e/acme/settings/webhooks/{world.ids['broken-hook']}")
    walk.follow("broken", within="Automations that call it")
    page.get_by_role("heading", name="broken", exact=True).wait_for()


def test_the_preview_shows_what_was_typed_last(window: Window) -> None:
    """However late the answer to what was typed before."""
    page = window.page
    window.come_back("member")
    window.open("/e/acme/automations/new")
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route("**/preview", hold_the_first)
    pattern, preview = page.get_by_label("Alias matches"), page.get_by_role("region", name="Preview")
    with page.expect_request("**/preview"):
        pattern.fill("^nothing")
    with page.expect_response("**/preview"):
        pattern.fill("^stag")
    preview.get_by_text("It would have fired 1 time").wait_for()
    with suppress(Error):  # the page gave it up
        held[0].continue_()
    page.wait_for_load_state("networkidle")
    assert preview.get_by_text("It would have fired 1 time").is_visible()


def test_going_back_shows_the_same_list_at_the_same_place(walk: Walk) -> None:
    page = walk.page
    page.set_viewport_size({"width": 900, "height": 420})
    walk.window.come_back("member")
    walk.window.open("/e/acme/deliveries")
    walk.follow("Refused")
    page.get_by_label("Project").fill("wandb-registry-model")
    walk.press("Filter")
    listed = page.url
    rows = page.get_by_role("table").get_by_role("link").all_inner_texts()
    row = page.get_by_role("link", name="promote-3", exact=True)
    row.scroll_into_view_if_needed()
    place = page.evaluate("scrollY")
    assert place > 0
    walk.follow("promote-3")
    page.go_back()
    assert page.url == listed and page.get_by_label("Project").input_value() == "wandb-registry-model"
    assert page.get_by_role("table").get_by_role("link").all_inner_texts() == rows
    page.wait_for_function("place => Math.abs(scrollY - place) < 5", arg=place)
    page.go_back()
    assert page.url.endswith("status=refused") and page.get_by_label("Project").input_value() == ""
    page.go_forward()
    assert page.url == listed


@pytest.mark.parametrize("blocked", ["**/static/vendor/**", "**/static/console.js*", "**/static/**/*.js*"])
def test_a_page_whose_scripts_did_not_come_works_as_without(window: Window, blocked: str) -> None:
    page, world = window.page, window.world
    window.expected = ("Failed to load resource", f"{world.url}/console/static/")
    page.route(blocked, lambda route: route.abort())
    window.sign_in("member")
    window.open("/e/acme/automations/new")
    page.get_by_label("Alias matches").fill("^stag")
    page.get_by_role("button", name="Preview").click()
    page.get_by_text("It would have fired 1 time").wait_for()
    page.get_by_label("Webhook", exact=True).select_option("deploy-hook")
    page.get_by_label("Name", exact=True).fill("made without its scripts")
    page.get_by_role("button", name="Create automation").click()
    page.get_by_role("heading", name="made without its scripts").wait_for()
    world.call("DELETE", f"/entities/acme/automations/{page.url.partition('?')[0].rpartition('/')[2]}")


def test_a_form_that_is_sent_after_the_session_ended_says_so(walk: Walk) -> None:
    page, world = walk.page, walk.window.world
    name = f"short-{walk.suffix}"
    made = world.call("POST", "/keys", {"name": name, "entity": "acme", "role": "member"}, key="root")
    world.keys[name] = made["key"]
    walk.window.come_back(name)
    walk.window.open("/e/acme/automations/new")
    page.get_by_label("Name", exact=True).fill("typed too late")
    world.call("DELETE", f"/keys/{made['id']}", key="root")
    walk.press("Create automation")
    page.get_by_label("API key").wait_for()
    page.get_by_text("what you sent was not saved").wait_for()
    assert "typed too late" not in str(world.call("GET", "/entities/acme/automations?limit=500"))
