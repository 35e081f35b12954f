"""Each client that was made ready, and Hookline with the entities and keys of tests/sdk/."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.client import Client, running_client
from tests.clients.environments import available
from tests.sdk.conftest import Hookline, hookline, populated, settings, sqlite_template, valkey_url

__all__ = ["hookline", "populated", "settings", "sqlite_template", "valkey_url"]


@pytest.fixture(scope="session", params=available())
def process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client, not logged in."""
    with running_client(request.param, tmp_path_factory.mktemp("client")) as client:
        yield client


@pytest.fixture
def client(process: Client, hookline: Hookline) -> Client:
    """A client that is logged in as alice, the administrator of `corp` and `acme`."""
    process.connect(hookline.url, hookline.keys["admin"])
    return process
