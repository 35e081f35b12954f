"""The second layer: with escaping switched off, the pages' policy still lets nothing run that others wrote."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dispatcher.console import rendering
from tests.integration.api.console.browser.conftest import Window
from tests.integration.api.console.test_pages import filled
from tests.integration.api.console.world import CANARY

HOSTILE_PAGES = (
    "/automations",
    "/automations/{hostile}",
    "/automations/{hostile}/edit",
    "/automations/{hostile}/revisions/{first:hostile}",
    "/deliveries?event={hostile-event}",
    "/deliveries/{refused}",
    "/events?id={hostile-event}",
    "/events/one?id={hostile-event}",
    "/collection?project=wandb-registry-model&name={hostile-collection}",
    "/settings/slack/{alerts}",
    "/settings/sources",
    "/settings/sources/{comet}",
)


@pytest.fixture
def unescaped() -> Iterator[None]:
    """Templates that escape nothing, and hide no character."""
    environment = rendering._environment()
    rendering._environment.cache_clear()
    changed = rendering._environment()
    changed.autoescape = False
    changed.finalize = None
    yield
    rendering._environment.cache_clear()
    assert rendering._environment() is not environment
    assert rendering._environment().autoescape is True


@pytest.mark.usefixtures("unescaped")
@pytest.mark.parametrize("path", HOSTILE_PAGES)
def test_nothing_runs_even_where_nothing_is_escaped(window: Window, path: str) -> None:
    page = window.page
    window.come_back("admin")
    reached: list[str] = []

    def stay(route: object) -> None:
        reached.append(route.request.url)  # type: ignore[attr-defined]
        route.fulfill(status=204)  # type: ignore[attr-defined]

    # A refresh to elsewhere is no script, and no policy forbids it: the browser is answered that it may stay.
    page.context.route(f"{CANARY}/**", stay)
    page.goto(filled(window.world, path), wait_until="load")
    assert page.locator("script:not([nonce]), [data-canary]").count() > 0, "this page has nothing that is hostile"
    assert page.evaluate("typeof window.pwned") == "undefined"
    assert set(reached) <= {f"{CANARY}/"}
    assert page.evaluate("document.baseURI").startswith(window.world.url)
    told = [fault for fault in window.faults if "ontent Security Policy" in fault or fault.startswith("policy:")]
    assert told, "the policy refused nothing"
    window.expected = ("",)  # what else it refused, and what the markup broke
