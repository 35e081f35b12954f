"""Edits at the same moment: names stay unique, secrets in use stay, and no edit hides behind a revision."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from sqlalchemy import Connection, Engine, func, select

from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.revisions import current_revision_value
from shared.storage.schema.tables import automations
from tests.integration.api.conftest import ACME, Api, automation, create_webhook, webhook

THREADS = 6


def test_of_many_creations_of_one_name_one_succeeds(api: Api) -> None:
    create_webhook(api, webhook())
    for path, definition in (("webhooks", webhook("same")), ("automations", automation("same"))):
        with ThreadPoolExecutor(THREADS) as pool:
            create = partial(api.send, "POST", f"{ACME}/{path}")
            statuses = Counter(answer.status_code for answer in pool.map(create, [definition] * THREADS))
        assert statuses == {201: 1, 409: THREADS - 1}


def test_of_many_creations_of_one_secret_one_is_new(api: Api) -> None:
    def put(number: int) -> int:
        return api.send("PUT", f"{ACME}/secrets/SAME", {"value": f"value {number}"}).status_code

    with ThreadPoolExecutor(THREADS) as pool:
        statuses = Counter(pool.map(put, range(THREADS)))

    assert statuses == {201: 1, 200: THREADS - 1}


def test_of_many_registrations_of_one_project_all_succeed(api: Api) -> None:
    def put(_number: int) -> int:
        return api.send("PUT", f"{ACME}/projects/digits/collections/mlp", {}).status_code

    with ThreadPoolExecutor(THREADS) as pool:
        assert set(pool.map(put, range(THREADS))) == {200}
    assert len(api.ok("GET", f"{ACME}/collections")["items"]) == 1


def test_a_secret_is_either_used_or_deleted(api: Api) -> None:
    for number in range(8):
        api.ok("PUT", f"{ACME}/secrets/SHORT_LIVED", {"value": "x"}, status=201)
        with ThreadPoolExecutor(2) as pool:
            used = pool.submit(api.send, "POST", f"{ACME}/webhooks", webhook(f"w{number}", secrets=["SHORT_LIVED"]))
            deleted = pool.submit(api.send, "DELETE", f"{ACME}/secrets/SHORT_LIVED")
        outcome = (used.result().status_code, deleted.result().status_code)
        assert outcome in ((201, 409), (422, 204))
        if outcome[0] == 201:
            api.ok("DELETE", f"{ACME}/webhooks/{used.result().json()['id']}", status=204)
            api.ok("DELETE", f"{ACME}/secrets/SHORT_LIVED", status=204)


def test_who_has_seen_a_revision_has_seen_every_edit_up_to_it(api: Api, engine: Engine) -> None:
    create_webhook(api)

    def create(number: int) -> int:
        return api.send("POST", f"{ACME}/automations", automation(f"automation {number}")).status_code

    seen: dict[int, int] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        made = [pool.submit(create, number) for number in range(30)]
        while not all(future.done() for future in made):
            with read_transaction(engine) as connection:
                revision = current_revision_value(connection)
                seen[revision] = _edits_up_to(connection, revision)
    assert {future.result() for future in made} == {201}
    with read_transaction(engine) as connection:
        assert seen == {revision: _edits_up_to(connection, revision) for revision in seen}
        assert _edits_up_to(connection, current_revision_value(connection)) == 30


def _edits_up_to(connection: Connection, revision: int) -> int:
    query = select(func.count()).select_from(automations).where(automations.c.revision <= revision)
    return int(connection.execute(query).scalar_one())
