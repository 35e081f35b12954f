"""The editor in a real browser: filters and conditions of every kind, their chart, two people at once, keys."""

from __future__ import annotations

from typing import Any

from tests.integration.api.console.browser.conftest import Window


def _stored(window: Window) -> Any:
    number = window.page.url.partition("?")[0].rpartition("/")[2]
    return window.world.call("GET", f"/entities/acme/automations/{number}")


def _remove(window: Window) -> None:
    number = window.page.url.partition("?")[0].rpartition("/")[2]
    window.world.call("DELETE", f"/entities/acme/automations/{number}")


def test_a_filter_is_built_of_a_pattern_and_any_of_some_terms(window: Window) -> None:
    page = window.page
    window.come_back("member")
    window.open("/e/acme/automations/new")
    page.get_by_label("Alias matches").fill("^prod")
    page.get_by_label("Terms that must hold").select_option("any of these")
    page.get_by_label("Field").first.fill("version")
    page.get_by_label("Value").first.fill("v3")
    with page.expect_navigation():
        page.get_by_role("button", name="Add a term").click()
    page.get_by_label("Field").nth(1).fill("metadata.type")
    page.get_by_label("Value").nth(1).fill("llm")
    with page.expect_navigation():
        page.get_by_label("Action type").select_option("Record only")
    page.get_by_role("link", name="Next step: name").click()
    page.get_by_label("Name", exact=True).fill("built in rows")
    page.get_by_role("button", name="Create automation").click()
    page.wait_for_url("**?done=created**")
    assert _stored(window)["filter"] == {
        "$and": [
            {"alias": {"$regex": "^prod"}},
            {"$or": [{"version": {"$eq": "v3"}}, {"metadata.type": {"$eq": "llm"}}]},
        ]
    }
    page.get_by_role("link", name="Edit automation").click()
    assert page.get_by_label("Alias matches").input_value() == "^prod"
    assert page.get_by_label("Field").nth(1).input_value() == "metadata.type"
    page.go_back()
    _remove(window)


def test_conditions_of_every_kind_are_built_with_their_chart_beside(window: Window) -> None:
    page = window.page
    window.come_back("member")
    window.open("/e/acme/automations/new?event=RUN_METRIC&project=digits&metric=accuracy&threshold=0.9")
    preview = page.get_by_role("region", name="Preview")
    preview.get_by_role("img", name="What the condition saw: accuracy > 0.9").wait_for()
    before = preview.locator(".mark.fired").get_attribute("d")
    with page.expect_response("**/preview"):
        page.get_by_label("Threshold").first.fill("0.97")
    preview.get_by_role("img", name="What the condition saw: accuracy > 0.97").wait_for()
    assert preview.locator(".mark.fired").get_attribute("d") != before
    window.check_accessibility()
    with page.expect_navigation():
        page.get_by_label("Judged by").first.select_option("change")
    page.get_by_label("Of values").first.fill("2")
    page.get_by_label("Against values before").fill("2")
    page.get_by_label("Aggregate").first.select_option("average")
    page.get_by_label("Measured").select_option("as a difference")
    with page.expect_response("**/preview"):
        page.get_by_label("Amount").fill("0.05")
    preview.get_by_text("the change").wait_for()
    with page.expect_navigation():
        page.get_by_role("button", name="Add a condition").click()
    with page.expect_navigation():
        page.get_by_label("Judged by").nth(1).select_option("outlier")
    page.get_by_label("Metric").nth(1).fill("loss")
    page.get_by_label("Deviations").fill("2.5")
    with page.expect_navigation():
        page.get_by_label("Action type").select_option("Record only")
    page.get_by_label("Name", exact=True).fill("built in rows")
    page.get_by_role("button", name="Create automation").click()
    page.wait_for_url("**?done=created**")
    change, outlier = _stored(window)["conditions"]
    assert change["change"] == {"type": "ABSOLUTE", "direction": "ANY", "amount": 0.05}
    assert (change["window"], change["prior_window"], change["aggregate"]) == (2, 2, "AVERAGE")
    assert (outlier["metric"], outlier["zscore"]["threshold"]) == ("loss", 2.5)
    _remove(window)


def test_somebody_else_s_edit_is_told_and_nothing_typed_is_lost(window: Window) -> None:
    page, world = window.page, window.world
    body = {"name": "edited by two", "event": "LINK_ARTIFACT", "action": {"no_op": True}}
    number = world.call("POST", "/entities/acme/automations", body)["id"]
    window.expected = ("Failed to load resource: the server responded with a status of 409",)
    window.come_back("member")
    window.open(f"/e/acme/automations/{number}/edit")
    world.call("PATCH", f"/entities/acme/automations/{number}", {"rate_limit": "5/min"})
    page.get_by_label("Description").fill("mine")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("Somebody else saved this automation").wait_for()
    page.get_by_role("alert").get_by_text("rate_limit").wait_for()
    assert page.get_by_label("Description").input_value() == "mine"
    window.check_accessibility()
    page.get_by_role("button", name="Save mine over it").click()
    page.wait_for_url("**?done=saved**")
    stored = _stored(window)
    assert (stored["description"], stored.get("rate_limit")) == ("mine", None)
    _remove(window)


def test_the_variables_are_those_of_the_event(window: Window) -> None:
    page = window.page
    window.come_back("member")
    window.open("/e/acme/automations/new?webhook=deploy-hook")
    page.get_by_text("Variables", exact=True).click()
    listed = page.locator(".vars li")
    assert listed.filter(has_text="${alias}").count() == 1
    assert listed.filter(has_text="${artifact_metadata.<KEY>}").count() == 1
    assert listed.filter(has_text="${run_id}").count() == 0
    assert listed.first.inner_text().startswith("${ACCESS_TOKEN}")
    with page.expect_navigation():
        page.get_by_label("Start from what a service asks for").select_option("github-dispatch")
        page.get_by_role("button", name="Fill in the payload").click()
    page.get_by_text("must be one of the types").wait_for()
    window.check_accessibility()
    assert "client_payload" in page.get_by_role("textbox", name="Payload").input_value()


def test_keys_do_something_once_they_are_turned_on(window: Window) -> None:
    page = window.page
    window.come_back("member")
    window.open("/e/acme")
    page.keyboard.press("c")
    assert page.url.endswith("/e/acme")
    page.get_by_role("button", name="Account").click()
    page.get_by_role("button", name="Turn keyboard shortcuts on").click()
    page.wait_for_load_state()
    page.keyboard.press("Shift+?")
    page.get_by_text("This list").wait_for()
    window.check_accessibility()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("e")
    page.wait_for_url("**/events")
    page.keyboard.press("/")
    page.keyboard.type("gc")
    assert page.get_by_label("Find by id").input_value() == "gc"
    assert page.url.endswith("/events")


def test_an_automation_is_made_by_keys_alone(window: Window) -> None:
    """Tab, typing, Space and Enter; what has focus is always in sight."""
    page = window.page
    window.come_back("member")
    window.open("/e/acme/automations/new?event=LINK_ARTIFACT")
    _tab_to(window, "Action type")
    with page.expect_navigation():
        page.keyboard.type("Record")
        page.keyboard.press("Tab")
    _tab_to(window, "Name")
    page.keyboard.type("made by keys")
    _tab_to(window, "Create automation")
    page.keyboard.press("Enter")
    page.wait_for_url("**?done=created**")
    _remove(window)


def test_options_that_keys_pass_are_not_chosen(window: Window) -> None:
    """Each arrow key chooses an option of a closed list: the form comes again once the list is left."""
    page = window.page
    window.come_back("member")
    window.open("/e/acme/automations/new?event=LINK_ARTIFACT")
    event = page.locator("#f-event")
    event.focus()
    page.evaluate("window.isSame = true")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    chosen = event.input_value()
    assert chosen != "LINK_ARTIFACT" and page.evaluate("window.isSame === true")
    with page.expect_navigation():
        page.keyboard.press("Tab")
    assert page.locator("#f-event").input_value() == chosen
    page.locator("#f-event:focus").wait_for()


def _tab_to(window: Window, name: str) -> None:
    """Press Tab until the element of this name has focus; each on the way must be seen."""
    for _ in range(80):
        window.page.keyboard.press("Tab")
        found, seen = window.page.evaluate(
            """() => {
                const one = document.activeElement, box = one.getBoundingClientRect();
                const label = one.labels?.[0]?.innerText ?? one.innerText ?? "";
                return [label.trim(), box.top >= 0 && box.top < innerHeight];
            }"""
        )
        assert seen, found
        if found == name:
            return
    raise AssertionError(f"Tab never reached {name!r}")
