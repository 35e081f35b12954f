"""Every page in a real browser: nothing that others wrote runs, and everybody can use it, in each theme and width."""

from __future__ import annotations

import re

import pytest

from tests.integration.api.console.browser.conftest import Window
from tests.integration.api.console.test_pages import ADMIN, DOWNLOADS, ENTITY, PAGES, filled

OWN_PAGES = ("/console/?all=1",)
PARTS = ("/deliveries/news", "/alerts")
"""What scripts ask for: parts of pages."""


@pytest.mark.parametrize(
    "path", [*(path for path in PAGES if path not in DOWNLOADS and not path.startswith(PARTS)), *OWN_PAGES]
)
def test_a_page_is_safe_and_accessible(window: Window, path: str) -> None:
    page = window.page
    window.come_back("admin" if "admin" in PAGES.get(path, ADMIN) else "root")
    page.goto(path if path in OWN_PAGES else filled(window.world, path))
    assert page.evaluate("typeof window.pwned") == "undefined"
    assert page.locator("[data-canary]").count() == 0
    assert page.locator("h1").count() == 1
    window.check_width()
    window.check_accessibility()
    page.emulate_media(color_scheme="dark")
    window.check_accessibility(only="color-contrast")
    page.set_viewport_size({"width": 640, "height": 450})  # as at 200 % in a window of 1280
    window.check_width()
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


def test_long_names_and_filters_have_room(window: Window) -> None:
    """A long name pushes the buttons below it, and a narrow page has its filters in two columns as wide as itself."""
    page = window.page
    window.come_back("admin")
    page.goto(filled(window.world, "/automations/{hostile}"))
    name, main = page.get_by_role("heading", level=1).bounding_box(), page.locator("main").bounding_box()
    assert name is not None and main is not None and name["width"] > main["width"] * 0.8
    page.goto(filled(window.world, "/automations/{record}"))
    top = page.get_by_role("heading", level=1).bounding_box()
    button = page.get_by_role("link", name="Edit automation").bounding_box()
    assert top is not None and button is not None and button["y"] < top["y"] + top["height"]
    page.set_viewport_size({"width": 320, "height": 640})
    page.goto(filled(window.world, "/deliveries"))
    form = page.get_by_role("search", name="Filters")
    fields = [one.bounding_box() for one in form.locator("input:not([type=hidden])").all()]
    edges = {round(one["x"] + one["width"]) for one in fields if one is not None}
    room = form.bounding_box()
    assert room is not None and len(edges) == 2 and max(edges) == round(room["x"] + room["width"])


def test_members_are_told_what_they_may_not_do(window: Window) -> None:
    window.expected = ("Failed to load resource: the server responded with a status of 403",)
    window.sign_in("member")
    window.open("/e/acme/settings/webhooks")
    assert window.page.get_by_role("button", name="New webhook").is_disabled()
    window.page.get_by_text("needs the role admin").wait_for()
    window.open("/e/acme/settings/keys")
    window.page.get_by_role("heading", name="You may not do this").wait_for()
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
    menu.wait_for()
    window.check_accessibility()
    menu.get_by_role("link", name="Deliveries").click()
    page.wait_for_url("**/deliveries")
    page.get_by_role("button", name="Account").click()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_text("You are signed out.").wait_for()
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
    page.wait_for_url("**/settings/webhooks")
    page.get_by_role("link", name="New webhook").first.click()
    page.wait_for_url("**/webhooks/new")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("URL", exact=True).fill(f"{receiver.url}/made")
    page.get_by_label("Access token").select_option("DEPLOY_TOKEN")
    page.get_by_label("Payload for the test").fill('{"event_type": "deploy"}')
    page.get_by_role("button", name="Test").click()
    page.get_by_role("heading", name="The endpoint answered 204").wait_for()
    assert page.get_by_label("Name", exact=True).input_value() == name
    page.locator("#answer:focus").wait_for()  # keys go on from what came of it
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**?done=created")
    page.get_by_role("heading", name=name).wait_for()
    page.get_by_text("${ACCESS_TOKEN}").wait_for()
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


def test_an_automation_is_made_with_the_preview_beside(window: Window) -> None:
    """The seed's way, by visible names; the preview follows what is typed."""
    page = window.page
    window.sign_in("member")
    page.get_by_role("link", name="Automations").first.click()
    page.wait_for_url("**/automations")
    page.get_by_role("link", name="Create automation").first.click()
    page.wait_for_url("**/automations/new")  # the list has a field of this name too
    with page.expect_navigation():
        page.get_by_label("Event", exact=True).select_option("A run's metric meets a condition")
    page.get_by_label("Threshold").first.wait_for()
    with page.expect_navigation():
        page.get_by_label("Event", exact=True).select_option("An alias is added to a version")
    page.get_by_label("Field").first.fill("alias")
    page.get_by_label("Operator").first.select_option("matches")
    with page.expect_response("**/preview"):
        page.get_by_label("Value").first.fill("^stag")
    preview = page.get_by_role("region", name="Preview")
    preview.get_by_text("It would have fired 1 time").wait_for()
    with page.expect_response("**/preview"):
        page.get_by_label("Value").first.fill("^nothing")
    preview.get_by_text("It would not have fired.").wait_for()
    preview.get_by_text('alias $regex "^nothing"').first.wait_for()
    window.check_accessibility()
    with page.expect_navigation():
        page.get_by_label("Webhook", exact=True).select_option("deploy-hook")
    page.get_by_text("Variables", exact=True).click()
    page.get_by_label("Payload").fill("")
    page.get_by_role("button", name="Insert alias", exact=True).click()
    assert page.get_by_label("Payload").input_value() == "${alias}"
    page.get_by_label("Payload").fill('{"alias": "${alias}"}')
    page.get_by_label("Name", exact=True).fill("made in a window")
    page.get_by_role("button", name="Create automation").click()
    page.wait_for_url(re.compile("done=created"))  # the fragment of the page before stays
    page.get_by_role("heading", name="made in a window").wait_for()
    _delete(window)


def test_an_automation_is_made_without_scripts(plain_window: Window) -> None:
    page = plain_window.page
    plain_window.sign_in("member")
    plain_window.open("/e/acme/automations/new")
    page.get_by_label("Field").first.fill("alias")
    page.get_by_label("Value").first.fill("staging")
    page.get_by_label("Webhook", exact=True).select_option("deploy-hook")
    page.get_by_role("button", name="Preview").click()
    page.get_by_text("It would have fired 1 time").wait_for()
    assert page.get_by_label("Value").first.input_value() == "staging"
    page.get_by_label("Name", exact=True).fill("made without scripts")
    page.get_by_role("button", name="Create automation").click()
    page.wait_for_url("**?done=created")
    _delete(plain_window)


def _delete(window: Window) -> None:
    window.page.get_by_role("link", name="Delete automation").click()
    window.page.get_by_role("button", name="Delete").click()
    window.page.wait_for_url("**?done=deleted")
    window.page.get_by_text("The automation is deleted.").wait_for()


def test_why_it_did_not_fire_is_four_clicks_from_the_overview(window: Window) -> None:
    page = window.page
    window.sign_in("member")
    page.get_by_role("link", name="Why did it not fire?").click()
    page.wait_for_url("**/why")
    page.get_by_label("Automation", exact=True).select_option("deploy-on-production")
    page.get_by_label("Event id").fill("promote-1")
    page.get_by_role("button", name="Explain").click()
    page.get_by_role("heading", name="No. The filter says no.").wait_for()
    page.get_by_text('← "staging"').first.wait_for()
