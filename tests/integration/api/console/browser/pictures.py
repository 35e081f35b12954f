"""Draws pages of the console into docs/pictures, from a service with some deliveries: `make pictures`.

A picture is what Debian's Chromium shows of a real page, so it is drawn again when the pages change.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from playwright.sync_api import Page, sync_playwright

from shared.settings import load_settings
from shared.storage.database.engine import open_engine
from shared.storage.schema.migrate import migrate
from tests.integration.api.console.browser.conftest import ARGUMENTS, DEADLINE_MS, Window
from tests.integration.api.console.world import opened_world
from tests.integration.scene import metric_event

FOLDER = Path(__file__).parents[5] / "docs" / "pictures"
WIDTH = 1200


def main() -> int:
    """Draw the pages; the folder may be given."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else FOLDER
    with TemporaryDirectory() as name, sync_playwright() as playwright:
        template = Path(name) / "template.db"
        engine = open_engine(load_settings(database_url=f"sqlite:///{template}"))
        migrate(engine)
        engine.dispose()
        with opened_world(Path(name), template) as world:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
            page = browser.new_context(base_url=world.url, viewport={"width": WIDTH, "height": 800}).new_page()
            page.set_default_timeout(DEADLINE_MS)
            Window(page, world).come_back()
            automation = world.ids["deploy-on-production"]
            _draw(page, "/e/acme", folder / "console-overview.png")
            _draw(page, f"/e/acme/automations/{automation}/edit", folder / "console-editor.png", height=1000)
            dead = world.delivery(status="dead")
            _draw(page, f"/e/acme/deliveries/{dead}", folder / "console-delivery.png", scheme="dark")
            _draw(page, "/e/acme/events/one?id=promote-1", folder / "console-event.png", height=900)
            world.publish(*(metric_event(step, run="r2", accuracy=_accuracy(step)) for step in range(60)))
            seen = f"/e/acme/automations/{world.ids['accuracy']}/series?project=digits&run=r2"
            _draw(page, seen, folder / "console-series.png")
            browser.close()
    return 0


def _accuracy(step: int) -> float:
    """What a run logs that learns, with some noise, and then forgets a little."""
    learned = 0.95 - 0.45 * math.exp(-step / 12) - (0.12 if step in range(34, 42) else 0)
    return round(learned + 0.02 * math.sin(step * 2.3), 4)


def _draw(
    page: Page, path: str, file: Path, *, height: int | None = None, scheme: Literal["light", "dark"] = "light"
) -> None:
    """Draw a page from its top: `height` pixels, or all of it."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(f"/console{path}", wait_until="networkidle")
    if height is None:
        page.screenshot(path=str(file), full_page=True)
    else:
        page.set_viewport_size({"width": WIDTH, "height": height})
        page.screenshot(path=str(file))
        page.set_viewport_size({"width": WIDTH, "height": 800})


if __name__ == "__main__":
    sys.exit(main())
