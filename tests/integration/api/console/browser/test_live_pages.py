"""Pages that are kept up to date while somebody looks: nothing moves under the reader, and hidden tabs ask nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dispatcher.console import once
from tests.integration.api.console.browser.conftest import Window
from tests.integration.scene import alias_event


def test_an_open_list_says_what_is_new_and_stays_where_it_is(window: Window) -> None:
    page, world = window.page, window.world
    window.come_back("member")
    window.open("/e/acme/deliveries?collection=watched")
    page.get_by_text("No delivery matches these filters").wait_for()
    page.get_by_role("button", name="Pause updates").click()
    world.publish(*(alias_event("gone", event_id=f"watched-{number}", collection="watched") for number in range(2)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.install()
    page.clock.run_for(20_000)
    assert not [url for url in asked if "/news" in url]
    page.get_by_role("button", name="Resume updates").click()
    page.clock.run_for(20_000)
    page.get_by_role("status").get_by_text("2 new deliveries.").wait_for()
    page.get_by_text("No delivery matches these filters").wait_for()
    window.check_accessibility()
    page.get_by_role("link", name="Show", exact=True).click()
    page.get_by_role("link", name="watched-1").wait_for()


def test_a_hidden_tab_asks_for_nothing(window: Window) -> None:
    page = window.page
    window.come_back("member")
    page.clock.install()
    window.open("/e/acme/deliveries")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("Object.defineProperty(document, 'visibilityState', {value: 'hidden', configurable: true})")
    page.clock.run_for(120_000)
    assert not [url for url in asked if "/console/e/" in url]
    page.evaluate("Object.defineProperty(document, 'visibilityState', {value: 'visible', configurable: true})")
    with page.expect_response("**/news**"):
        page.clock.run_for(10_000)


def test_a_delivery_s_attempts_appear_while_it_is_looked_at(window: Window) -> None:
    page, world = window.page, window.world
    window.come_back("admin")
    world.call("PATCH", f"/entities/acme/webhooks/{world.ids['paused-hook']}", {"paused": True})
    made = world.call(
        "POST",
        "/entities/acme/automations",
        {
            "name": "watched line",
            "event": "ADD_ARTIFACT_ALIAS",
            "filter": {"alias": "line"},
            "action": {"webhook": "paused-hook", "payload": {"a": 1}},
        },
    )
    world.publish(alias_event("line", event_id="line-1"))
    page.clock.install()
    window.open(f"/e/acme/deliveries/{world.delivery(event='line-1')}")
    page.get_by_text("Waiting").first.wait_for()
    page.get_by_role("button", name="Copy").focus()
    world.call("PATCH", f"/entities/acme/webhooks/{world.ids['paused-hook']}", {"paused": False})
    world.scene.deliver()
    page.clock.run_for(10_000)
    page.get_by_text("Attempt 1").wait_for()
    page.get_by_role("button", name="Replay").wait_for()
    assert page.evaluate("document.activeElement.textContent.trim()") == "Copy"
    world.call("DELETE", f"/entities/acme/automations/{made['id']}")
    world.call("PATCH", f"/entities/acme/webhooks/{world.ids['paused-hook']}", {"paused": True})


def test_all_that_match_are_replayed_from_the_list(window: Window) -> None:
    _replay(window, "replayed in a window")


def test_all_that_match_are_replayed_without_scripts(plain_window: Window) -> None:
    _replay(plain_window, "replayed without scripts")


def _replay(window: Window, collection: str) -> None:
    page, world = window.page, window.world
    world.publish(*(alias_event("gone", event_id=f"{collection} {number}", collection=collection) for number in (1, 2)))
    window.sign_in("admin")
    page.get_by_role("link", name="Deliveries").first.click()
    page.wait_for_url("**/deliveries")
    page.get_by_label("Collection").fill(collection)
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**/deliveries?**")
    page.get_by_role("link", name="Replay what matches").click()
    page.wait_for_url("**/replay?**")
    page.get_by_label("Status").select_option("Refused")
    page.get_by_role("button", name="Count again").click()
    page.wait_for_url("**counted=1**")
    page.get_by_label("Pace").select_option("1/min")
    page.get_by_role("button", name="Replay 2 deliveries").click()
    page.wait_for_url("**/replays/**")
    page.get_by_text("0 of 2 have ended").first.wait_for()
    page.get_by_role("link", name="Stop it").click()
    page.get_by_role("button", name="Stop").click()
    page.wait_for_url("**done=stopped")
    page.get_by_text("All of them have ended").wait_for()


def test_no_secret_is_left_in_the_browser(
    window: Window, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each flow that shows or takes one: in no storage, address, cache, page gone back to, nor in the log."""
    page, value = window.page, "typed-canary-1f0a77c2"
    monkeypatch.setattr(once, "SHOWN_AGAIN", timedelta())  # as later, when no second click follows any more
    # Going back to a page that a form led to, Chromium under Playwright sends the form again, without asking.
    window.expected = ("Failed to load resource: the server responded with a status of 422",)
    window.sign_in("admin")
    window.open("/e/acme/settings/webhooks/new")
    page.get_by_label("Name of the secret").fill("TYPED_HERE")
    page.get_by_label("Value", exact=True).fill(value)
    page.get_by_role("button", name="Store the secret").click()
    page.get_by_text("The secret TYPED_HERE is stored").wait_for()
    assert value not in page.content()
    window.open("/e/acme/settings/webhooks/new")
    page.get_by_label("Name of the secret").fill("MADE_HERE")
    page.get_by_role("button", name="Generate a signing secret").click()
    made = page.locator("#made").inner_text()
    window.open("/me")
    page.get_by_label("Name", exact=True).fill("canary key")
    page.get_by_role("button", name="Make key").click()
    key = page.locator("#made").inner_text()
    page.get_by_role("link", name="I have stored it").click()
    kept = [value, made, key, window.world.keys["admin"]]
    assert made.startswith("whsec_") and key.startswith("hlk-")
    seen = [page.content()]
    for _ in range(3):
        page.go_back()
        seen += [page.url, page.content()]
    stored = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, history.state])"
    databases = "indexedDB.databases().then(all => all.length)"
    assert page.evaluate(databases) == 0 and page.evaluate("caches.keys().then(all => all.length)") == 0
    seen += [page.evaluate(stored), *capfd.readouterr()]
    assert not [one for one in kept for text in seen if one in text]
    for name in ("TYPED_HERE", "MADE_HERE"):
        window.world.call("DELETE", f"/entities/acme/secrets/{name}")


def test_what_only_scripts_can_do_is_not_offered_without_them(plain_window: Window) -> None:
    plain_window.sign_in("admin")
    plain_window.open("/e/acme/settings/manifest")
    assert not plain_window.page.get_by_role("button", name="Copy").is_visible()
    assert not plain_window.page.locator("#live-switch").is_visible()
