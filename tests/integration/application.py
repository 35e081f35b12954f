"""The API's application, lent to one test after another: to make its routes takes ten times as long as most tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI

from dispatcher.app import create_app
from shared.settings import Settings

_idle: list[FastAPI] = []


@contextmanager
def lent_application(settings: Settings) -> Iterator[FastAPI]:
    """An application on these settings that nobody else uses meanwhile; what it opens, it opens anew at each start."""
    app = _idle.pop() if _idle else create_app(settings)
    app.state.settings = settings
    yield app
    _idle.append(app)  # not one whose test broke off
