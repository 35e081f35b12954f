"""Publish to Hookline what happens to models and runs.

    import hookline

    with hookline.run(project="digits", config={"lr": 0.1}) as run:
        run.log({"loss": 0.3})

`hookline.events` builds events of every type; `Client` and `AsyncClient` publish them now, `Background` soon and
without ever blocking. `hookline.outbox` publishes from a database's transactions, `hookline.testing` records in tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hookline import events as events
from hookline.background import Background as Background
from hookline.client import Client as Client
from hookline.errors import Fault as Fault
from hookline.errors import HooklineError as HooklineError
from hookline.errors import InvalidConfiguration as InvalidConfiguration
from hookline.errors import InvalidEvent as InvalidEvent
from hookline.errors import Refused as Refused
from hookline.errors import Unreachable as Unreachable
from hookline.runs import Run as Run
from hookline.runs import run as run
from hookline.version import __version__ as __version__

if TYPE_CHECKING:
    from hookline import outbox as outbox
    from hookline import testing as testing
    from hookline.async_client import AsyncClient as AsyncClient


def __getattr__(name: str) -> Any:
    """What needs more than the standard library, or is needed by tests only, is imported when it is used."""
    import importlib

    if name == "AsyncClient":
        return importlib.import_module("hookline.async_client").AsyncClient
    if name in ("outbox", "testing"):
        return importlib.import_module(f"hookline.{name}")
    raise AttributeError(f"module 'hookline' has no attribute {name!r}")
