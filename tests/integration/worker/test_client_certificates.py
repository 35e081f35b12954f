"""A delivery to an endpoint that lets in only who shows its certificate, all the way from the event."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from shared.settings import Settings
from tests.integration.api.test_client_certificates import AUTHORITY, ONE, TWO, demanding
from tests.integration.receiver import Receiver
from tests.integration.worker.conftest import Scene, alias_event, opened_scene


@pytest.fixture
def trusting(settings: Settings, redis: Redis, receiver: Receiver, tmp_path: Path) -> Iterator[Scene]:
    """A scene whose worker trusts the authority."""
    bundle = tmp_path / "authority.pem"
    bundle.write_text(AUTHORITY.pem)
    with opened_scene(settings.model_copy(update={"ca_bundle": bundle}), redis, receiver) as scene:
        yield scene


def test_webhooks_deliver_with_their_own_certificates(trusting: Scene, tmp_path: Path) -> None:
    trusting.secret("ONE", ONE.pem)
    trusting.secret("TWO", TWO.pem)
    with demanding(tmp_path) as (url, seen):
        for name, certificate in (("one", "ONE"), ("two", "TWO"), ("none", None)):
            hook = trusting.webhook(name, url=url, client_certificate=certificate)
            trusting.automation(hook, payload={"of": name})
        trusting.publish(*(alias_event() for _ in range(3)))
        trusting.evaluate()
        trusting.deliver()
    assert sorted(seen) == [("one", b'{"of":"one"}')] * 3 + [("two", b'{"of":"two"}')] * 3
    assert sorted(row.status for row in trusting.rows()) == ["dead"] * 3 + ["delivered"] * 6
