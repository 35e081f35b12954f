"""A source is made, tried and taken out by the names on its pages, with scripts and without, and by keyboard alone."""

from __future__ import annotations

import httpx

from tests.integration.api.console.browser.conftest import Walk, Window
from tests.integration.api.console.browser.test_keyboard import enter, fill
from tests.integration.api.console.test_source_pages import RULE
from tests.integration.api.console.world import PATIENCE_SECONDS, SECRETS

REQUEST = '{"event": "new", "model": "llm", "id": "77"}'


def test_a_source_is_made_tried_and_deleted(walk: Walk) -> None:
    page, world, name = walk.page, walk.window.world, f"source {walk.suffix}"
    walk.window.expected = ("Failed to load resource: the server responded with a status of 422",)
    walk.window.sign_in("admin")
    walk.follow("Sources")
    walk.follow("New source")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Service", exact=True).select_option("Another service, by rules of yours")
    page.get_by_label("Secret", exact=True).select_option("COMET")
    page.get_by_label("Project", exact=False).first.fill("models")
    page.get_by_text("Proof and rules, for other services").click()
    page.get_by_label("Proof", exact=False).first.fill('{"token": {"header": "X-Token"}}')
    page.get_by_label("Rules").fill(RULE)
    page.get_by_label("Body of the request").fill(REQUEST)
    walk.press("Test")
    page.get_by_role("heading", name="It would become 1 event").wait_for()
    _check(walk)
    assert page.get_by_label("Body of the request").input_value() == REQUEST
    page.get_by_label("Name", exact=True).fill("a/b")
    walk.press("Save")
    page.get_by_role("alert").get_by_text("letters, digits").wait_for()
    _check(walk)
    page.get_by_label("Name", exact=True).fill(name)
    walk.press("Save")
    page.get_by_text("Enter the URL below").wait_for()
    url = page.locator("#source-url").inner_text()
    sent = httpx.post(url, content=REQUEST, headers={"X-Token": SECRETS["COMET"]}, timeout=PATIENCE_SECONDS)
    assert sent.status_code == 202, sent.text
    page.reload()
    page.get_by_text("Accepted").wait_for()
    walk.follow("Test")
    page.get_by_label("Body of the request").fill('{"event": "old"}')
    walk.press("Test source")
    page.get_by_role("heading", name="It would become no event").wait_for()
    _check(walk)
    walk.follow(name)
    walk.follow("Delete source")
    walk.press("Delete")
    page.get_by_text("The source is deleted.").wait_for()
    assert name not in [one["name"] for one in world.call("GET", "/entities/acme/sources")["items"]]


def _check(walk: Walk) -> None:
    """Look at the page by axe, which waits for timers: without scripts there are none, and the page is the same."""
    if walk.scripted:
        walk.window.check_accessibility()


def test_a_source_is_made_by_keyboard_alone(window: Window) -> None:
    page, world = window.page, window.world
    window.come_back("admin")
    window.open("/e/acme/settings/sources")
    enter(window, "New source")
    fill(window, "Name", "source by keys")
    fill(window, "Service", "GitHub")
    fill(window, "Secret", "COMET")
    fill(window, "Project", "models")
    fill(window, "Body of the request", "[]")
    enter(window, "Test")
    page.get_by_role("heading", name="It would").wait_for()
    enter(window, "Save")
    page.get_by_text("Enter the URL below").wait_for()
    enter(window, "Disable")
    page.get_by_text("become no events").wait_for()
    enter(window, "Delete source")
    enter(window, "Delete")
    page.get_by_text("The source is deleted.").wait_for()
    assert "source by keys" not in str(world.call("GET", "/entities/acme/sources"))


def test_breadcrumbs_stand_on_one_line(window: Window) -> None:
    window.come_back("admin")
    window.open(f"/e/acme/settings/sources/{window.world.ids['comet']}")
    shown = "[...document.querySelectorAll('.crumbs a, .crumbs .name')].map(one => one.getBoundingClientRect())"
    link, here = window.page.evaluate(f"{shown}.map(box => (box.top + box.bottom) / 2)")
    assert abs(link - here) < 1
