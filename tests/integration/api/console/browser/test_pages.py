"""Every page in a real browser: nothing that others wrote runs, and everybody can use it, in each theme and width."""

from __future__ import annotations

import pytest

from tests.integration.api.console.browser.conftest import Window
from tests.integration.api.console.test_pages import ENTITY, PAGES, filled

OWN_PAGES = ("/console/me", "/console/?all=1")


@pytest.mark.parametrize("path", [*PAGES, *OWN_PAGES])
def test_a_page_is_safe_and_accessible(window: Window, path: str) -> None:
    page = window.page
    window.come_back("admin")
    page.goto(path if path in OWN_PAGES else filled(window.world, path))
    assert page.evaluate("typeof window.pwned") == "undefined"
    assert page.locator("[data-canary]").count() == 0
    assert page.locator("h1").count() == 1
    window.check_width()
    window.check_accessibility()
    page.emulate_media(color_scheme="dark")
    window.check_accessibility(only="color-contrast")
    page.set_viewport_size({"width": 320, "height": 640})
    window.check_width()
    window.check_accessibility()


def test_the_page_for_signing_in_is_accessible(window: Window) -> None:
    window.open("/sign-in")
    for scheme in ("light", "dark"):
        window.page.emulate_media(color_scheme=scheme)
        window.check_accessibility()
    window.page.set_viewport_size({"width": 320, "height": 640})
    window.check_width()


def test_members_are_told_what_they_may_not_do(window: Window) -> None:
    window.expected = ("Failed to load resource: the server responded with a status of 403",)
    window.sign_in("member")
    window.open("/e/acme/settings/webhooks")
    assert window.page.get_by_role("button", name="New webhook").is_disabled()
    assert window.page.get_by_text("needs the role admin").is_visible()
    window.open("/e/acme/settings/keys")
    assert window.page.get_by_role("heading", name="You may not do this").is_visible()
    window.check_accessibility()


def test_menus_and_themes_work(window: Window) -> None:
    page = window.page
    window.sign_in("admin")
    page.get_by_role("button", name="Account").click()
    page.get_by_role("button", name="Dark").click()
    page.wait_for_load_state()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.set_viewport_size({"width": 360, "height": 700})
    menu = page.get_by_role("navigation", name="acme")
    assert not menu.is_visible()
    page.get_by_role("button", name="Menu", exact=True).click()
    assert menu.is_visible()
    window.check_accessibility()
    menu.get_by_role("link", name="Deliveries").click()
    page.wait_for_url("**/deliveries")
    page.get_by_role("button", name="Account").click()
    page.get_by_role("button", name="Sign out").click()
    assert page.get_by_text("You are signed out.").is_visible()
    page.go_back()
    page.reload()
    assert "/sign-in" in page.url


def test_the_session_is_in_no_storage_and_out_of_scripts_reach(window: Window) -> None:
    window.sign_in("admin")
    assert window.page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]") == ["", 0, 0]


def test_a_webhook_is_made_and_tested(window: Window) -> None:
    _make_and_test(window, "in a window")


def test_a_webhook_is_made_and_tested_without_scripts(plain_window: Window) -> None:
    _make_and_test(plain_window, "without scripts")


def _make_and_test(window: Window, name: str) -> None:
    """The seed's way: New webhook, fields, Test, the answer, Save."""
    page, receiver = window.page, window.world.scene.receiver
    window.sign_in("admin")
    page.get_by_role("link", name="Webhooks").first.click()
    page.get_by_role("link", name="New webhook").first.click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("URL", exact=True).fill(f"{receiver.url}/made")
    page.get_by_label("Access token").select_option("DEPLOY_TOKEN")
    page.get_by_label("Payload for the test").fill('{"event_type": "deploy"}')
    page.get_by_role("button", name="Test").click()
    assert page.get_by_role("heading", name="The endpoint answered 204").is_visible()
    assert page.get_by_label("Name").input_value() == name
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**?done=created")
    assert page.get_by_role("heading", name=name).is_visible()
    assert page.get_by_text("${ACCESS_TOKEN}").is_visible()
    page.get_by_role("link", name="Delete webhook").click()
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**?done=deleted")
    assert receiver.requests[-1].json == {"event_type": "deploy"}
    assert {name.lower(): value for name, value in receiver.requests[-1].headers.items()}["authorization"].startswith(
        "Bearer tok-canary"
    )


def test_a_form_of_another_site_changes_nothing(window: Window) -> None:
    window.expected = ("Failed to load resource: the server responded with a status of 403", "Cross-Origin-Opener")
    window.sign_in("admin")
    target = f"{window.world.url}{ENTITY}/settings/secrets"
    foreign = window.world.url.replace("127.0.0.1", "localhost")
    window.page.context.route(
        f"{foreign}/**",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f"<form method=post action='{target}'><input name=name value=PLANTED><input name=value value=xxxxxxxx>"
            "<button>go</button></form>",
        ),
    )
    window.page.goto(f"{foreign}/evil")
    window.page.get_by_role("button", name="go").click()
    window.page.wait_for_url(f"{target}**")
    assert "PLANTED" not in str(window.world.call("GET", "/entities/acme/secrets"))
