"""The guard of all tests here: it sees what it is for, in a context that a test makes by itself, too."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Error

from tests.integration.api.console.browser.conftest import Guard
from tests.integration.api.console.world import CANARY, World


@pytest.mark.parametrize(
    ("script", "seen"),
    [
        ("console.error('said')", "said"),
        ("setTimeout(() => { throw new Error('thrown') })", "uncaught: thrown"),
        (f"fetch('{CANARY}/x').catch(() => 0)", "policy: connect-src"),
        ("document.body.append(Object.assign(document.createElement('style'), {textContent: 'a{}'}))", "policy: style"),
        ("document.body.append(Object.assign(document.createElement('img'), {src: 'data:,x'}))", "policy: img-src"),
    ],
)
def test_every_context_is_watched(browser: Browser, world: World, guard: Guard, script: str, seen: str) -> None:
    context = browser.new_context(base_url=world.url)
    page = context.new_page()
    page.goto("/console/sign-in")
    with page.expect_event("console") if seen != "uncaught: thrown" else context.expect_event("weberror"):
        page.evaluate(f"() => {{ {script} }}")
    context.close()
    assert [one for one in guard.unexpected if one.startswith(seen)], guard.faults
    guard.faults.clear()


def test_a_request_to_elsewhere_is_stopped_and_told(browser: Browser, world: World, guard: Guard) -> None:
    context = browser.new_context(base_url=world.url)
    with pytest.raises(Error, match="ERR_FAILED"):
        context.new_page().goto(f"{CANARY}/x")
    context.close()
    assert f"request to {CANARY}/x" in guard.unexpected
    guard.faults.clear()


def test_no_page_is_opened_beside_a_context(browser: Browser) -> None:
    with pytest.raises(AssertionError, match="make a context"):
        browser.new_page()
