"""How a reader wants the pages to look: kept in a cookie, so that they come out right without a script."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

COOKIE = "hookline-theme"
SHORTCUTS_COOKIE = "hookline-shortcuts"
THEMES = ("system", "light", "dark")


@dataclass(frozen=True, slots=True)
class Preferences:
    """The reader's choices."""

    theme: str = "system"
    shortcuts: bool = False
    """Whether single keys do something: off unless chosen (WCAG 2.1.4), since speech input presses them by chance."""


def preferences_of(request: Request) -> Preferences:
    """The choices that the browser brings, as far as they are such."""
    theme = request.cookies.get(COOKIE, "")
    return Preferences(theme if theme in THEMES else "system", request.cookies.get(SHORTCUTS_COOKIE) == "on")
