"""`Idempotency-Key`: done once, answered as often as asked, and never wedged."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, func, insert, select, update

from dispatcher.api import idempotency
from dispatcher.control import webhooks
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.schema.tables import api_keys, idempotency_keys
from shared.storage.schema.tables import webhooks as webhooks_table
from tests.integration.api.conftest import (
    ACME,
    TOKEN,
    Api,
    automation,
    create_webhook,
    event,
    problem_of,
    put_secrets,
    webhook,
)
from tests.servers import free_port

WEBHOOKS = f"{ACME}/webhooks"


def post(api: Api, path: str, body: object = None, *, once: str = "k1", key: str = "root") -> httpx.Response:
    return api.send("POST", path, body, key=key, headers={"Idempotency-Key": once})


def count(engine: Engine, table: Any) -> int:
    with read_transaction(engine) as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_a_repeat_is_answered_and_not_done_again(api: Api) -> None:
    first = post(api, WEBHOOKS, webhook())
    again = post(api, WEBHOOKS, webhook())

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert first.headers["etag"] == again.headers["etag"]
    assert again.headers["content-type"] == "application/json"
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(api.ok("GET", WEBHOOKS)["items"]) == 1


def test_every_post_of_rest_takes_a_key_except_events_and_webhooks_in(api: Api) -> None:
    document = api.client.request("GET", "/openapi.json").json()
    posts = {path: methods["post"] for path, methods in document["paths"].items() if "post" in methods}

    for path, operation in posts.items():
        names = {parameter["name"] for parameter in operation.get("parameters", ())}
        assert ("Idempotency-Key" in names) == (path not in ("/v1/events", "/v1/in/{token}")), path


def test_a_key_belongs_to_one_request(api: Api) -> None:
    post(api, WEBHOOKS, webhook())

    for path, body in (
        (WEBHOOKS, webhook("other")),
        ("/v1/keys", webhook()),
        (f"{ACME}/apply?dry_run=true", webhook()),
    ):
        problem = problem_of(post(api, path, body), 422)
        assert problem.locs == [["Idempotency-Key"]]
    assert post(api, WEBHOOKS, webhook("theirs"), key="admin").status_code == 201
    assert [hook["name"] for hook in api.ok("GET", WEBHOOKS)["items"]] == ["deploy-hook", "theirs"]


def test_a_refused_request_lets_go_of_its_key(api: Api, engine: Engine) -> None:
    assert post(api, WEBHOOKS, webhook(url="ftp://x")).status_code == 422
    assert post(api, WEBHOOKS, webhook(), key="member").status_code == 403
    assert post(api, WEBHOOKS, webhook(), key="outsider").status_code == 404
    assert count(engine, idempotency_keys) == 0

    assert post(api, WEBHOOKS, webhook()).status_code == 201


def test_a_key_shown_once_is_shown_again_and_not_kept_in_the_clear(api: Api, engine: Engine) -> None:
    first = post(api, "/v1/keys", {"name": "laptop"}).json()
    again = post(api, "/v1/keys", {"name": "laptop"}).json()

    assert first == again
    with read_transaction(engine) as connection:
        assert len(connection.execute(select(api_keys).where(api_keys.c.name == "laptop")).all()) == 1
        row = connection.execute(select(idempotency_keys)).one()
    assert first["key"].encode() not in row.body
    assert b"laptop" not in row.body


def test_of_many_at_the_same_moment_one_is_done(api: Api, engine: Engine) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(api, "/v1/keys", {"name": "laptop"}), range(6)))

    statuses = Counter(answer.status_code for answer in answers)
    assert statuses.keys() <= {201, 409}
    assert all(answer.headers["retry-after"] for answer in answers if answer.status_code == 409)
    assert len({answer.json()["key"] for answer in answers if answer.status_code == 201}) == 1
    with read_transaction(engine) as connection:
        assert len(connection.execute(select(api_keys).where(api_keys.c.name == "laptop")).all()) == 1


def test_while_the_first_is_underway_the_second_is_told_to_wait(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go_on = threading.Event(), threading.Event()
    # The handler waits before its first statement that writes, so that SQLite's only writer is free.
    monkeypatch.setattr(idempotency.Once, "writing", _late(idempotency.Once.writing, entered, go_on))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, api, WEBHOOKS, webhook())
        assert entered.wait(30)
        problem = problem_of(post(api, WEBHOOKS, webhook()), 409)
        go_on.set()
        assert first.result().status_code == 201
    assert problem.headers["retry-after"] == "1"
    assert post(api, WEBHOOKS, webhook()).headers["idempotent-replayed"] == "true"


def _late(inner: Any, entered: threading.Event, go_on: threading.Event) -> Any:
    def writing_late(self: Any) -> Any:
        entered.set()
        assert go_on.wait(30)
        return inner(self)

    return writing_late


def age(engine: Engine, by: timedelta, **values: Any) -> None:
    with write_transaction(engine) as connection:
        connection.execute(update(idempotency_keys).values(created_at=datetime.now(UTC) - by, **values))


def test_an_abandoned_claim_is_taken_over(api: Api, engine: Engine) -> None:
    post(api, WEBHOOKS, webhook())
    unfinished: dict[str, Any] = {"status_code": None, "body": None}
    age(engine, timedelta(seconds=50), **unfinished)
    problem_of(post(api, WEBHOOKS, webhook()), 409)
    age(engine, timedelta(seconds=61), **unfinished)

    assert post(api, WEBHOOKS, webhook("another")).status_code == 201


def test_who_was_taken_over_changes_nothing(api: Api, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    create = webhooks.create

    def overtaken(connection: Any, *arguments: Any, **more: Any) -> Any:
        made = create(connection, *arguments, **more)
        connection.execute(update(idempotency_keys).values(created_at=datetime.now(UTC)))
        return made

    monkeypatch.setattr(webhooks, "create", overtaken)

    problem_of(post(api, WEBHOOKS, webhook()), 409)

    assert count(engine, webhooks_table) == 0


def test_what_was_done_stays_done_although_its_answer_was_lost(api: Api, engine: Engine) -> None:
    post(api, "/v1/keys", {"name": "laptop"})
    age(engine, timedelta(seconds=61), body=None)

    problem = problem_of(post(api, "/v1/keys", {"name": "laptop"}), 409)

    assert "lost" in problem.detail
    assert "retry-after" not in problem.headers
    with read_transaction(engine) as connection:
        assert len(connection.execute(select(api_keys).where(api_keys.c.name == "laptop")).all()) == 1


def test_a_crash_before_the_answer_is_kept_leaves_an_effective_claim(
    api: Api, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "_finish", lambda *_: None)

    post(api, WEBHOOKS, webhook())

    with read_transaction(engine) as connection:
        row = connection.execute(select(idempotency_keys)).one()
    assert (row.status_code, row.body) == (200, None)


def test_keys_are_forgotten_after_a_day_a_few_at_a_time(
    api: Api, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "REMOVED_IN_PASSING", 2)
    post(api, WEBHOOKS, webhook())
    old = datetime.now(UTC) - timedelta(hours=25)
    with write_transaction(engine) as connection:
        rows = [
            {"user_id": 1, "key": f"old-{n}", "request_digest": b"x", "created_at": old - timedelta(hours=n)}
            for n in range(3)
        ]
        connection.execute(insert(idempotency_keys), rows)
    age_of_first = update(idempotency_keys).where(idempotency_keys.c.key == "k1").values(created_at=old)
    with write_transaction(engine) as connection:
        connection.execute(age_of_first)

    assert post(api, WEBHOOKS, webhook("another")).status_code == 201
    with read_transaction(engine) as connection:
        left = set(connection.scalars(select(idempotency_keys.c.key)))
    assert left == {"k1", "old-0"}


def test_bad_keys_are_refused(api: Api) -> None:
    for bad in ("", "x" * 256, "ü", "a\tb"):
        answer = api.send("POST", WEBHOOKS, webhook(), headers={"Idempotency-Key": bad.encode()})
        assert problem_of(answer, 422).locs == [["Idempotency-Key"]], bad
    headers = [("Authorization", f"Bearer {api.keys['root']}"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    problem_of(api.client.request("POST", WEBHOOKS, json=webhook(), headers=headers), 422)
    assert post(api, WEBHOOKS, webhook(), once="x" * 255).status_code == 201
    assert len(api.ok("GET", WEBHOOKS)["items"]) == 1


def test_nobody_without_a_key_claims_anything(api: Api, engine: Engine) -> None:
    headers = {"Idempotency-Key": "k1"}
    problem_of(api.client.request("POST", WEBHOOKS, json=webhook(), headers=headers), 401)
    problem_of(
        api.client.request("POST", WEBHOOKS, json=webhook(), headers={**headers, "Authorization": "Basic !"}), 401
    )

    assert count(engine, idempotency_keys) == 0


def test_a_large_body_is_refused_before_it_is_claimed(api: Api, engine: Engine) -> None:
    headers = {"Authorization": f"Bearer {api.keys['root']}", "Idempotency-Key": "k1"}

    def chunks() -> Any:
        async def generate() -> Any:
            for _ in range(3):
                yield b" " * (1 << 19)

        return generate()

    problem_of(api.client.request("POST", WEBHOOKS, content=chunks(), headers=headers), 413)
    assert count(engine, idempotency_keys) == 0


def test_a_replayed_delivery_is_replayed_once(api: Api) -> None:
    put_secrets(api)
    body = {"status": "dead"}

    first, again = post(api, f"{ACME}/deliveries/replay", body), post(api, f"{ACME}/deliveries/replay", body)

    assert first.json() == again.json() == {"replayed": 0, "last_due_at": None, "id": None}
    assert again.headers["idempotent-replayed"] == "true"
    assert TOKEN not in first.text


def test_what_only_looks_keeps_nothing(api: Api, engine: Engine) -> None:
    create_webhook(api)
    dry_run = {"definition": automation(), "events": [event()]}
    for path, body in ((f"{ACME}/automations/dry-run", dry_run), (f"{ACME}/apply?dry_run=true", {"automations": []})):
        for _ in range(2):
            answer = post(api, path, body, key="admin")
            assert (answer.status_code, answer.headers.get("idempotent-replayed")) == (200, None), answer.text
    assert count(engine, idempotency_keys) == 0
    assert post(api, f"{ACME}/apply", {"automations": []}, key="admin").status_code == 200
    assert count(engine, idempotency_keys) == 1


def test_an_endpoint_is_tested_once(api: Api) -> None:
    made = api.ok("POST", WEBHOOKS, webhook(url=f"https://127.0.0.1:{free_port()}/"), status=201)
    first = post(api, f"{WEBHOOKS}/{made['id']}/test", key="admin")
    again = post(api, f"{WEBHOOKS}/{made['id']}/test", key="admin")
    assert first.status_code == 200, first.text
    assert first.content == again.content
    assert again.headers["idempotent-replayed"] == "true"


def test_who_lost_a_role_does_not_see_the_answer_again(api: Api) -> None:
    made = api.ok("POST", "/v1/users", {"name": "eve", "roles": [{"entity": "acme", "role": "admin"}]}, status=201)
    api.key("eve", user="eve")
    body = {"name": "ci", "entity": "acme", "role": "admin"}
    first = post(api, "/v1/keys", body, key="eve")
    assert first.status_code == 201, first.text
    assert post(api, "/v1/keys", body, key="eve").json() == first.json()

    for change in (
        lambda: api.ok("PUT", f"{ACME}/members/{made['id']}", {"role": "member"}),
        lambda: api.send("DELETE", f"{ACME}/members/{made['id']}"),
    ):
        change()
        again = problem_of(post(api, "/v1/keys", body, key="eve"), 409)
        assert "your roles have changed" in again.detail
        assert first.json()["key"] not in api.answers[-1]


def test_what_is_kept_for_a_user_has_bounds(api: Api, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "MAX_ANSWERS", 3)
    monkeypatch.setattr(idempotency, "MAX_KEYS", 6)
    for number in range(5):
        assert post(api, WEBHOOKS, webhook(f"w{number}"), once=f"k{number}").status_code == 201
    with read_transaction(engine) as connection:
        rows = connection.execute(select(idempotency_keys).order_by(idempotency_keys.c.created_at)).all()
    assert [row.body is not None for row in rows] == [False, False, True, True, True]
    assert problem_of(post(api, WEBHOOKS, webhook("w0"), once="k0"), 409).headers["retry-after"] == "1"
    assert post(api, WEBHOOKS, webhook("w4"), once="k4").headers["idempotent-replayed"] == "true"

    monkeypatch.setattr(idempotency, "MAX_ANSWER_BYTES", 10)
    assert post(api, WEBHOOKS, webhook("w5"), once="k5").status_code == 201
    problem_of(post(api, WEBHOOKS, webhook("w5"), once="k5"), 409)
    refused = problem_of(post(api, WEBHOOKS, webhook("w6"), once="k6"), 429)
    assert refused.headers["retry-after"] == "60"
    assert post(api, WEBHOOKS, webhook("w6"), once="k6", key="admin").status_code == 201

    monkeypatch.setattr(idempotency, "MAX_ANSWERS_BYTES", 1)
    monkeypatch.setattr(idempotency, "MAX_ANSWER_BYTES", 1 << 20)
    assert post(api, WEBHOOKS, webhook("w7"), once="k7", key="admin").status_code == 201
    with read_transaction(engine) as connection:
        kept = connection.execute(select(idempotency_keys.c.key).where(idempotency_keys.c.body.is_not(None))).all()
    assert "k7" not in {row.key for row in kept}
