"""Which places a request takes."""

from __future__ import annotations

import anyio
import pytest

from dispatcher.api.fair_use import _of_kind, _publishes
from dispatcher.api.threads import Threads

ACME = "/v1/entities/acme"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (f"{ACME}/webhooks/wh_1/test", "tests of webhooks"),
        (f"{ACME}/webhooks/test", "tests of webhooks"),
        (f"{ACME}/slack/sl_1/test", "tests of webhooks"),
        (f"{ACME}/automations/aut_1/test", "tests of webhooks"),
        (f"{ACME}/automations/dry-run", "dry runs"),
        (f"{ACME}/apply", "manifests that are applied or exported"),
        (f"{ACME}/export", "manifests that are applied or exported"),
        (f"{ACME}/deliveries/export", "exports of deliveries"),
        (f"{ACME}/automations", "requests"),
        (f"{ACME}/secrets/test", "requests"),
        ("/v1/events", "requests"),
    ],
)
def test_each_slow_request_takes_a_place_of_its_kind(path: str, kind: str) -> None:
    async def check() -> None:
        places, turns = _of_kind(path, Threads())
        assert places.what == kind
        assert (turns is not None) is (kind == "requests")

    anyio.run(check)


def test_only_publishing_is_free_of_places() -> None:
    assert _publishes({"path": "/v1/events", "method": "POST"})
    assert not _publishes({"path": "/v1/events", "method": "GET"})
    assert not _publishes({"path": f"{ACME}/events", "method": "POST"})
