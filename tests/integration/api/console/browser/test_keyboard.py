"""The main flows by keyboard alone: what is needed is reached by Tab, in reading order, and seen where it is."""

from __future__ import annotations

from typing import Any

from tests.integration.api.console.browser.conftest import Window
from tests.integration.scene import alias_event

MOST_TABS = 150
_FOCUSED = """() => {
  const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
  const named = one.getAttribute("aria-label") ?? one.labels?.[0]?.textContent ?? one.textContent;
  const middle = document.elementFromPoint(box.x + box.width / 2, box.y + Math.min(box.height / 2, 20));
  return {
    name: named.replace(/\\s+/g, " ").trim(),
    where: one === document.body ? "" : `${one.tagName} ${one.id || one.className}`,
    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    seen: one.type === "checkbox" || (middle !== null && (one.contains(middle) || middle.contains(one))),
  };
}"""


def focused(window: Window) -> dict[str, Any]:
    found: dict[str, Any] = window.page.evaluate(_FOCUSED)
    return found


def reach(window: Window, name: str) -> None:
    """Press Tab until what has this name has the focus. What has it on the way is outlined, and not covered."""
    passed = []
    for _ in range(MOST_TABS):
        window.page.keyboard.press("Tab")
        one = focused(window)
        if one["where"]:  # else the focus has left the page at its end, and comes back at its start
            assert one["outlined"] and one["seen"], one
        if one["name"] == name or one["name"] == f"{name} optional":
            return
        passed.append(one["name"])
    raise AssertionError(f"{name!r} is not reached by Tab, but {passed}")


def enter(window: Window, name: str) -> None:
    """Follow the link, or press the button, of this name."""
    reach(window, name)
    with window.page.expect_navigation():
        window.page.keyboard.press("Enter")


def fill(window: Window, name: str, text: str) -> None:
    """Type into the field of this name, or choose what begins so."""
    reach(window, name)
    window.page.keyboard.type(text)


def test_the_main_flows_are_done_by_keyboard_alone(window: Window) -> None:
    page, world = window.page, window.world
    window.open("/sign-in")
    if focused(window)["name"] != "API key":
        reach(window, "API key")
    page.keyboard.type(world.keys["admin"])
    with page.expect_navigation():
        page.keyboard.press("Enter")
    page.wait_for_url("**/console/e/**")

    page.keyboard.press("Tab")
    assert focused(window)["name"] == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.getElementById('main').contains(document.activeElement)")

    enter(window, "Secrets")
    enter(window, "New secret")
    fill(window, "Name", "BY_KEYS")
    fill(window, "Value", "typed-by-keys-only")
    enter(window, "Save")
    page.wait_for_url("**done=created")

    enter(window, "Webhooks")
    enter(window, "New webhook")
    fill(window, "Name", "by keys")
    fill(window, "URL", f"{world.scene.receiver.url}/by-keys")
    fill(window, "Access token", "BY_KEYS")
    enter(window, "Test")
    page.get_by_role("heading", name="The endpoint answered 204").wait_for()
    assert focused(window)["where"] == "SECTION answer", "keys go on from what came of it"
    enter(window, "Save")
    page.wait_for_url("**done=created")

    enter(window, "Create an automation with this webhook")
    fill(window, "Alias matches", "^by-keys$")
    fill(window, "Name", "made by the keyboard")
    enter(window, "Create automation")
    page.wait_for_url("**done=created**")

    world.publish(alias_event("by-keys", event_id="by-keys-1"))
    enter(window, "Deliveries")
    enter(window, "by-keys-1")
    enter(window, "Replay")
    page.get_by_text("This is the new delivery").wait_for()

    enter(window, "made by the keyboard")
    enter(window, "Why did it not fire?")
    fill(window, "Event id", "by-keys-1")
    enter(window, "Explain")
    page.get_by_role("heading", name="Yes, it fired.").wait_for()
    world.scene.deliver()
