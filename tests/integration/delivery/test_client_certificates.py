"""A delivery to an endpoint that lets in only who shows its certificate, all the way from the event."""

from __future__ import annotations

import gc
import ssl
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from redis import Redis
from structlog.testing import capture_logs

from shared.http import tls
from shared.settings import Settings
from shared.storage.database.transactions import read_transaction
from shared.storage.delivery.webhook_snapshots import load_endpoint
from tests.integration.api.test_client_certificates import AUTHORITY, ONE, TWO, demanding
from tests.integration.receiver import Receiver
from tests.integration.scene import Scene, alias_event, opened_scene

REFUSED = "the client certificate can't be used in TLS: ee key too small"


@pytest.fixture
def trusting(settings: Settings, redis: Redis, receiver: Receiver, tmp_path: Path) -> Iterator[Scene]:
    """A scene whose worker trusts the authority."""
    bundle = tmp_path / "authority.pem"
    bundle.write_text(AUTHORITY.pem)
    with opened_scene(settings.model_copy(update={"ca_bundle": bundle}), redis, receiver) as scene:
        yield scene


def test_no_more_contexts_stay_than_the_bound_however_many_webhooks_are_sent_to(
    trusting: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "MAX_IDENTITIES", 2)
    trusting.secret("ONE", ONE.pem)
    alive: weakref.WeakSet[ssl.SSLContext] = weakref.WeakSet()
    for number in range(4):
        hook = trusting.webhook(f"hook-{number}", client_certificate="ONE")
        with read_transaction(trusting.process.engine) as connection:
            row = load_endpoint(connection, hook)
            assert row is not None
            endpoint = trusting.process.endpoints.open(connection, row)
            again = trusting.process.endpoints.open(connection, row)
        assert endpoint.tls is not None and again.tls is endpoint.tls
        alive.add(endpoint.tls)
        del endpoint, again
    gc.collect()
    assert len(alive) == 2


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


def test_deliveries_wait_while_openssl_refuses_the_certificate_and_go_out_with_another(
    trusting: Scene, tmp_path: Path
) -> None:
    weak = AUTHORITY.issue_weak("weak")  # as if it had been saved where OpenSSL takes it
    trusting.secret("CERTIFICATE", weak.pem)
    counted = REGISTRY.get_sample_value("hookline_webhooks_unusable_total") or 0.0
    with demanding(tmp_path) as (url, seen):
        hook = trusting.webhook("mutual", url=url, client_certificate="CERTIFICATE")
        trusting.automation(hook, payload={"of": "mutual"})
        trusting.publish(alias_event())
        trusting.evaluate()
        with capture_logs() as logs:
            for _ in range(2):
                assert trusting.process.webhooks.drain(hook) == 0
        assert [(line["webhook_id"], line["error"]) for line in logs if line["event"] == "webhook.unusable"] == [
            (f"wh_{hook}", REFUSED)
        ] * 2
        assert REGISTRY.get_sample_value("hookline_webhooks_unusable_total") == counted + 2
        (waiting,) = trusting.pending()
        assert (waiting.claim, waiting.attempts, trusting.attempts(), seen) == (None, 0, [], [])

        trusting.new_value("CERTIFICATE", ONE.pem)
        trusting.deliver()
    assert seen == [("one", b'{"of":"mutual"}')]
    assert [row.status for row in trusting.rows()] == ["delivered"]
