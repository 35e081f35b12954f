"""A real browser for the console's pages: Debian's Chromium, driven by Playwright.

Every page that a test opens is watched, however it opens it: a request to anywhere else, a violation of the page's
policy, an error in the console, an uncaught one, or an answer of 5xx fails the test. `BROWSER_TESTS=required` makes a
missing Chromium a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Route, sync_playwright
from playwright.sync_api import Response as Answered

from tests.integration.api.console.world import World

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
DEADLINE_MS = 30_000
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WATCH = """
addEventListener("securitypolicyviolation", e => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`))
"""


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A Chromium for all tests here. It is closed with the last of them, since its loop would disturb others."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        reason = "there is no Chromium: `apt-get install chromium`"
        assert os.environ.get("BROWSER_TESTS") != "required", reason
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=DEADLINE_MS)
        yield browser
        browser.close()


@dataclass
class Window:
    """A window of the browser, and what went wrong in it."""

    page: Page
    world: World
    faults: list[str] = field(default_factory=list)
    """Of all windows of the test."""
    expected: tuple[str, ...] = ()
    """How messages begin that the test brings about."""

    def open(self, path: str) -> None:
        """Go to a page of the console, and wait until its scripts ran."""
        self.page.goto(f"/console{path}", wait_until="load")

    def come_back(self, key: str = "admin") -> None:
        """Bring a session that was made before, with the key of this name."""
        with self.world.visitor(key) as visitor:
            cookies = [{"name": name, "value": value, "url": self.world.url} for name, value in visitor.cookies.items()]
        self.page.context.add_cookies(cookies)  # type: ignore[arg-type]

    def sign_in(self, key: str = "admin") -> None:
        """Sign in as somebody does, with the key of this name."""
        self.open("/sign-in")
        self.page.get_by_label("API key").fill(self.world.keys[key])
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url("**/console/e/**")

    def check_accessibility(self, *, only: str | None = None) -> None:
        """Look at the page as it is by axe: no rule may be broken, or not the one."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE)
        wanted = {"runOnly": RULES if only is None else {"type": "rule", "values": [only]}}
        found = self.page.evaluate("wanted => axe.run(document, wanted)", wanted)
        broken = [
            f"{one['id']}: {node['target']} {node.get('failureSummary', '')}"
            for one in found["violations"]
            for node in one["nodes"]
        ]
        assert not broken, "\n".join(broken)

    def check_width(self) -> None:
        """The page itself must not scroll sideways."""
        wide, room = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= room, self.page.url


@dataclass
class Guard:
    """What went wrong in the windows of a test, and what the test brings about itself."""

    faults: list[str] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)

    @property
    def unexpected(self) -> list[str]:
        """The faults that no window of the test expects."""
        expected = tuple(one for window in self.windows for one in window.expected)
        return [fault for fault in self.faults if not fault.startswith(expected or ("\0",))]


@pytest.fixture(autouse=True)
def guard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guard]:
    """Watches every context that a test makes, so that no test can forget it."""
    found, make = Guard(), Browser.new_context

    def watched(browser: Browser, **options: Any) -> BrowserContext:
        context = make(browser, **options)
        context.set_default_timeout(DEADLINE_MS)
        context.add_init_script(WATCH)
        _watch(context, str(options["base_url"]), found.faults)
        return context

    def refused(_browser: Browser, **_options: Any) -> Page:
        raise AssertionError("make a context, which is watched")

    monkeypatch.setattr(Browser, "new_context", watched)
    monkeypatch.setattr(Browser, "new_page", refused)
    yield found
    assert found.unexpected == []


@pytest.fixture
def window(browser: Browser, world: World, guard: Guard) -> Iterator[Window]:
    """A window that nobody is signed in to yet."""
    yield from _opened(browser, world, guard)


@pytest.fixture
def plain_window(browser: Browser, world: World, guard: Guard) -> Iterator[Window]:
    """A window without JavaScript."""
    yield from _opened(browser, world, guard, java_script_enabled=False)


@dataclass
class Walk:
    """Somebody who does what a page asks, by the names on it, with scripts or without."""

    window: Window
    scripted: bool

    @property
    def page(self) -> Page:
        """The page that is open."""
        return self.window.page

    @property
    def suffix(self) -> str:
        """What makes names of this walk its own."""
        return "scripted" if self.scripted else "plain"

    def follow(self, name: str, *, within: str | None = None, exact: bool = True) -> None:
        """Follow the first link of a name, in all of the page or in its named part."""
        place = self.page.get_by_role("region", name=within, exact=True) if within else self.page
        with self.page.expect_navigation():
            place.get_by_role("link", name=name, exact=exact).first.click()

    def press(self, name: str) -> None:
        """Press a button that leads to another page, or shows this one again."""
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=name, exact=True).first.click()

    def choose(self, label: str, option: str) -> None:
        """Choose what decides which other fields there are: the form follows, or is asked to."""
        field = self.page.get_by_label(label, exact=True).first
        if not self.scripted:
            field.select_option(option)
            self.press("Preview")
        elif field.locator("option:checked").inner_text() != option:
            with self.page.expect_navigation():
                field.select_option(option)

    def menu(self, name: str, entry: str) -> None:
        """Open the menu of a row and follow one of its entries."""
        self.page.get_by_role("button", name=f"Actions for {name}", exact=True).click()
        with self.page.expect_navigation():
            self.page.locator(".at-row:popover-open").get_by_role("link", name=entry, exact=True).click()


@pytest.fixture(params=[True, False], ids=["with scripts", "without scripts"])
def walk(request: pytest.FixtureRequest, browser: Browser, world: World, guard: Guard) -> Iterator[Walk]:
    """Somebody at a window with scripts, and at one without."""
    for window in _opened(browser, world, guard, java_script_enabled=request.param):
        yield Walk(window, request.param)


def _opened(browser: Browser, world: World, guard: Guard, **options: Any) -> Iterator[Window]:
    context = browser.new_context(
        base_url=world.url, viewport={"width": 1280, "height": 900}, reduced_motion="reduce", **options
    )
    window = Window(context.new_page(), world, guard.faults)
    guard.windows.append(window)
    yield window
    context.close()


def _watch(context: BrowserContext, origin: str, faults: list[str]) -> None:
    def routed(route: Route) -> None:
        if route.request.url.startswith(f"{origin}/"):
            route.continue_()
        else:
            faults.append(f"request to {route.request.url}")
            route.abort()

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            faults.append(message.text)

    def failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # one that the next page took over
            faults.append(f"{request.url} failed: {request.failure}")

    def answered(answer: Answered) -> None:
        if answer.status >= 500:
            faults.append(f"{answer.url} was answered with {answer.status}")

    context.route("**/*", routed)
    context.on("console", said)
    context.on("weberror", lambda error: faults.append(f"uncaught: {error.error}"))
    context.on("requestfailed", failed)
    context.on("response", answered)
