"""What holds for every route: problem documents, health, metrics, the description."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from dispatcher.control import secrets
from shared.settings import Settings
from shared.storage.database.transactions import write_transaction
from shared.version import __version__
from tests.integration.api.conftest import (
    ACME,
    TOKEN,
    Api,
    create_webhook,
    full_webhook,
    problem_of,
    put_secrets,
    running,
)


def test_faults_of_http_itself_are_problems_too(api: Api) -> None:
    api.refused("GET", "/v1/nothing", status=404)
    api.refused("GET", f"{ACME}/nothing", status=404)
    api.refused("GET", f"{ACME}/webhooks/", status=404)
    assert "GET" in api.refused("DELETE", f"{ACME}/webhooks", status=405).headers["allow"]
    assert api.refused("PUT", f"{ACME}/secrets/X", status=400, content=b"{").locs == [[]]
    headers = {"Content-Type": "text/plain"}
    api.refused("PUT", f"{ACME}/secrets/X", status=415, content=b"{}", headers=headers)
    api.refused("PUT", f"{ACME}/secrets/X", status=413, content=b" " * ((1 << 20) + 1))
    api.refused("POST", f"{ACME}/apply", status=413, content=b" " * ((8 << 20) + 1))
    wide = b"{%b}" % b",".join(b'"%d":1' % number for number in range(100_001))
    assert "colons" in api.refused("POST", f"{ACME}/apply", status=413, content=wide).detail
    api.refused("POST", f"{ACME}/apply?dry_run=maybe", {}, status=422)
    api.refused("GET", "/v1/entities/ac%00me", status=400)
    api.refused("GET", f"{ACME}/deliveries?event=%00", status=400)


def test_a_bug_is_answered_without_its_details(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise RuntimeError(f"value {TOKEN}")

    monkeypatch.setattr(secrets, "put", fail)

    problem = api.refused("PUT", f"{ACME}/secrets/X", {"value": TOKEN}, status=500)

    assert TOKEN not in problem.detail


def test_a_database_that_is_away_is_ours_to_mend(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise OperationalError("SELECT", {"value": TOKEN}, Exception("gone"))

    monkeypatch.setattr(secrets, "list_secrets", fail)

    problem = api.refused("GET", f"{ACME}/secrets", status=503)

    assert problem.headers["retry-after"] == "1"
    assert TOKEN not in problem.detail


def test_health_and_metrics_need_no_key(api: Api) -> None:
    assert api.client.request("GET", "/healthz").json() == {"status": "ok", "version": __version__}
    assert api.client.request("GET", "/readyz").json()["status"] == "ready"
    metrics = api.client.request("GET", "/metrics")
    assert "hookline_build_info" in metrics.text
    assert metrics.headers["content-type"].startswith("text/plain")


def test_an_older_schema_is_not_ready(api: Api, engine: Engine) -> None:
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))

    problem = problem_of(api.client.request("GET", "/readyz"), 503)

    assert problem.locs == [["database"]]


def test_a_later_schema_is_served_while_the_next_version_rolls_out(api: Api, engine: Engine) -> None:
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    assert api.client.request("GET", "/readyz").json()["status"] == "ready"


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_pages_load_nothing_from_elsewhere(api: Api, page: str) -> None:
    """A network without a way out shows them, and nobody else learns who looks."""
    text = api.client.request("GET", page).text
    loaded = re.findall(r"""(?:src|href|spec-url)=["']([^"']+)""", text) + re.findall(r"url: '([^']+)'", text)
    assert len(loaded) >= 3
    for url in loaded:
        assert url.startswith("/"), url
        answer = api.client.request("GET", url)
        assert answer.status_code == 200, url
        # Browsers take a script without it for another encoding, and refuse this one's letters.
        assert not url.endswith(".js") or answer.headers["content-type"].endswith("; charset=utf-8")
    assert "http" not in re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def test_the_address_alone_leads_to_the_console(api: Api) -> None:
    answer = api.client.request("GET", "/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/console/")


FOR_EVERYBODY = ("get /v1/schemas", "get /v1/vocabulary", "get /v1/payload-templates", "post /v1/in", "options /v1/in")
"""What stands in the docs, too, and what others' services send with a proof of their own: no key is asked for."""


def test_the_description_names_every_body_and_problem(api: Api) -> None:
    description = api.client.request("GET", "/openapi.json").json()
    assert api.client.request("GET", "/docs").status_code == 200

    operations: dict[str, Any] = {
        f"{method} {path}": operation
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }
    bodiless = {
        "post /v1/entities/{entity}/deliveries/{delivery_id}/replay",
        "post /v1/invitations/{entity}/accept",
        "post /v1/entities/{entity}/deliveries/replays/{replay_id}/stop",
        "post /v1/entities/{entity}/slack/{slack_id}/test",
    }
    for name, operation in operations.items():
        if name.split()[0] in ("put", "post", "patch") and name not in bodiless and not name.endswith("/restore"):
            assert operation["requestBody"]["content"], name
        assert "application/problem+json" in operation["responses"]["4XX"]["content"], name
        if "/v1/" in name and not name.startswith(FOR_EVERYBODY):
            assert operation["security"], name
    identifiers = [operation["operationId"] for operation in operations.values()]
    assert len(set(identifiers)) == len(identifiers)
    assert "#/$defs" not in str(description)


def test_a_parameter_that_takes_one_value_is_refused_twice_on_every_route(api: Api) -> None:
    description = api.client.request("GET", "/openapi.json").json()
    tried = 0
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", ()):
                several = '"array"' in json.dumps(parameter["schema"])
                if parameter["in"] == "query" and not several:
                    url = f"{path}?{parameter['name']}=1&{parameter['name']}=1"
                    problem = api.refused(method.upper(), url, {} if method != "get" else None, status=422)
                    assert [[parameter["name"]]] == problem.locs, url
                    assert "once" in problem.detail
                    tried += 1
    assert tried > 30


def test_secrets_that_no_key_opens_make_a_webhook_unusable(api: Api, settings: Settings) -> None:
    put_secrets(api)
    path = f"{ACME}/webhooks/{create_webhook(api, full_webhook())['id']}/test"
    others = settings.model_copy(update={"secret_keys": SecretStr(Fernet.generate_key().decode())})

    with running(others) as client:
        problem = Api(client).refused("POST", path, status=409)

    assert "HOOKLINE_SECRET_KEYS" in problem.detail


def test_readiness_tells_of_keys_that_are_not_those_of_the_database(api: Api, settings: Settings) -> None:
    others = settings.model_copy(update={"secret_keys": SecretStr(Fernet.generate_key().decode())})
    with running(others) as client:
        problem = problem_of(client.request("GET", "/readyz"), 503)
    assert problem.detail.startswith("secret_keys: the database's secrets are encrypted with other keys")
    assert "HOOKLINE_SECRET_KEYS" in problem.detail
