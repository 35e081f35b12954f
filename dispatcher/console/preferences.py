"""How a reader wants the pages to look: kept in a cookie, so that they come out right without a script."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fastapi import Request

COOKIE = "hookline-theme"
SHORTCUTS_COOKIE = "hookline-shortcuts"
HIDDEN_COOKIE = "hookline-hidden-alerts"
MAX_HIDDEN = 40
_KEY = re.compile(r"[0-9a-f]{12}", re.ASCII)
THEMES = ("system", "light", "dark")


@dataclass(frozen=True, slots=True)
class Preferences:
    """The reader's choices."""

    theme: str = "system"
    shortcuts: bool = False
    """Whether single keys do something: off unless chosen (WCAG 2.1.4), since speech input presses them by chance."""
    hidden_alerts: tuple[str, ...] = ()
    """The keys of alerts that were taken away, the oldest first."""


def preferences_of(request: Request) -> Preferences:
    """The choices that the browser brings, as far as they are such."""
    theme = request.cookies.get(COOKIE, "")
    hidden = _KEY.findall(request.cookies.get(HIDDEN_COOKIE, ""))[-MAX_HIDDEN:]
    return Preferences(
        theme if theme in THEMES else "system", request.cookies.get(SHORTCUTS_COOKIE) == "on", tuple(hidden)
    )


def is_alert_key(text: str) -> bool:
    """Whether it has the form of an alert's key."""
    return _KEY.fullmatch(text) is not None
