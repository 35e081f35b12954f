"""Endpoints stay open from drain to drain, until an edit concerns them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from shared.delivery.endpoint import Endpoint
from shared.storage.database.transactions import read_transaction, write_statement, write_transaction
from shared.storage.definitions.revisions import next_revision
from shared.storage.definitions.webhooks import WebhookEdit, find_webhook, update_webhooks
from shared.storage.delivery.webhook_snapshots import load_endpoint
from shared.storage.schema.tables import webhooks
from tests.integration.scene import Scene, alias_event


def _opened(scene: Scene, hook: int) -> Endpoint:
    with read_transaction(scene.process.engine) as connection:
        row = load_endpoint(connection, hook)
        assert row is not None
        return scene.process.endpoints.open(connection, row)


def test_what_nobody_edited_is_not_opened_again(scene: Scene) -> None:
    scene.secret("TOKEN", "first-token")
    hook = scene.webhook(access_token="TOKEN")
    assert _opened(scene, hook) is _opened(scene, hook)


def test_another_value_of_a_secret_counts_at_once(scene: Scene) -> None:
    scene.secret("TOKEN", "first-token")
    hook = scene.webhook(access_token="TOKEN")
    assert _opened(scene, hook).headers["Authorization"] == "Bearer first-token"
    scene.new_value("TOKEN", "second-token")
    assert _opened(scene, hook).headers["Authorization"] == "Bearer second-token"


@pytest.mark.parametrize("stored", ["Bearer a b", "bearer   a b", "BEARER a b"])
def test_a_token_that_comes_with_its_scheme_is_sent_with_one(scene: Scene, stored: str) -> None:
    scene.secret("TOKEN", stored)
    opened = _opened(scene, scene.webhook(access_token="TOKEN"))
    assert opened.headers["Authorization"] == "Bearer a b"
    assert opened.secrets["ACCESS_TOKEN"] == "a b"


@pytest.mark.parametrize("stored", ["Bearer", "Bearertoken", "Bearer-1 x", "token Bearer x"])
def test_a_token_that_only_looks_like_it_is_sent_whole(scene: Scene, stored: str) -> None:
    scene.secret("TOKEN", stored)
    opened = _opened(scene, scene.webhook(access_token="TOKEN"))
    assert opened.headers["Authorization"] == f"Bearer {stored}"


def test_an_edit_of_the_webhook_counts_at_once(scene: Scene) -> None:
    hook = scene.webhook()
    before = _opened(scene, hook)
    with read_transaction(scene.process.engine) as connection:
        stored = find_webhook(connection, scene.entity_id, webhook_id=hook)
    assert stored is not None
    with write_transaction(scene.process.engine) as connection:
        edit = WebhookEdit(
            stored=stored,
            after=replace(stored.fields, url=f"{scene.receiver.url}/elsewhere"),
            revision=next_revision(connection),
            clear_failures=False,
        )
        update_webhooks(connection, [edit], secret_ids={}, now=datetime.now(UTC))
    assert (before.url, _opened(scene, hook).url) == (f"{scene.receiver.url}/hook", f"{scene.receiver.url}/elsewhere")


@pytest.mark.parametrize(
    ("use", "value", "words"),
    [
        ("access_token", "line\nbreak", "the access token must be Unicode text without line breaks and NUL"),
        ("signing_secret", "whsec_€", "the signing secret must have standard base64 of the key after 'whsec_'"),
    ],
)
def test_a_secret_that_can_not_be_used_holds_deliveries_until_it_is_mended(
    scene: Scene, use: str, value: str, words: str
) -> None:
    scene.secret("VALUE", value)
    hook = scene.webhook(**{use: "VALUE"})
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    with capture_logs() as logs:
        assert scene.process.webhooks.drain(hook) == 0
    members = ("webhook_id", "entity", "webhook", "error")
    assert [[line[name] for name in members] for line in logs if line["event"] == "webhook.unusable"] == [
        [f"wh_{hook}", "acme", "hook", words]
    ]
    assert value not in str(logs)
    (waiting,) = scene.pending()
    assert (waiting.claim, waiting.attempts, scene.attempts()) == (None, 0, [])

    scene.new_value("VALUE", "long-enough-to-be-one")
    scene.deliver()
    assert [row.status for row in scene.rows()] == ["delivered"]


def test_a_payload_with_more_of_secrets_than_is_sent_is_refused_and_blames_nobody(scene: Scene) -> None:
    scene.secret("LARGE", "\1" * 60_000)
    hook = scene.webhook(secrets=("LARGE",))
    scene.automation(hook, secrets=("LARGE",), payload={str(number): "${LARGE}" for number in range(100)})
    scene.publish(alias_event())
    scene.evaluate()
    scene.deliver()
    (row,) = scene.rows()
    assert (row.status, row.attempts) == ("refused", 1)
    assert row.reason == "blocked: the payload's secrets are more than 1048576 characters in total, as written in it"
    assert scene.receiver.requests == []


def test_a_url_that_is_none_holds_deliveries_as_well(scene: Scene) -> None:
    hook = scene.webhook(url="ftp://127.0.0.1/secret-path")
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    with capture_logs() as logs:
        assert scene.process.webhooks.drain(hook) == 0
    (line,) = [line for line in logs if line["event"] == "webhook.unusable"]
    assert line["error"] == "the URL must be an absolute http or https URL"
    assert "secret-path" not in str(logs)
    assert len(scene.pending()) == 1


def test_a_policy_of_a_newer_release_holds_deliveries_too(scene: Scene) -> None:
    hook = scene.webhook()
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    with write_transaction(scene.process.engine) as connection:
        connection.execute(update(webhooks).values(policy={"new_member": 1}, revision=next_revision(connection)))
    with capture_logs() as logs:
        assert scene.process.webhooks.drain(hook) == 0
    (line,) = [line for line in logs if line["event"] == "webhook.unusable"]
    assert line["error"] == "this version does not know the policy"
    assert len(scene.pending()) == 1


def test_a_statement_at_once_is_kept_and_its_connection_is_as_before(scene: Scene) -> None:
    engine, hook = scene.process.engine, scene.webhook()
    with write_statement(engine) as connection:
        connection.execute(text("UPDATE webhooks SET failures = 7"))
    with pytest.raises(DBAPIError), write_statement(engine) as connection:
        connection.execute(text("UPDATE webhooks SET no_such_column = 7"))
    with pytest.raises(RuntimeError, match="taken back"), write_transaction(engine) as connection:
        connection.execute(text("UPDATE webhooks SET failures = 8"))
        raise RuntimeError("taken back")
    with read_transaction(engine) as connection:
        row = load_endpoint(connection, hook)
    assert row is not None
    assert row.circuit.failures == 7


def test_a_batch_that_all_went_well_forgets_failures_of_before(scene: Scene) -> None:
    hook = scene.webhook()
    scene.automation(hook)
    with write_statement(scene.process.engine) as connection:
        connection.execute(text("UPDATE webhooks SET failures = 3"))
    scene.publish(*(alias_event() for _ in range(3)))
    scene.evaluate()
    scene.process.webhooks.drain(hook)
    scene.settle()
    with read_transaction(scene.process.engine) as connection:
        row = load_endpoint(connection, hook)
    assert row is not None
    assert row.circuit.failures == 0
    assert [one.status for one in scene.rows()] == ["delivered"] * 3
