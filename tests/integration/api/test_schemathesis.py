"""Requests that schemathesis makes from the OpenAPI document, fit and unfit ones, get no answer that it does not name.

On SQLite alone, since what is tested is the surface. Requests run in process.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, Phase, settings
from redis import Redis
from requests import Request
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from dispatcher.api.app import create_app
from shared.settings import load_settings
from shared.storage import bootstrap
from tests.integration.api.conftest import (
    Api,
    Keys,
    automation,
    create_automation,
    create_webhook,
    put_secrets,
    running,
    webhook,
)
from tests.integration.conftest import ADMIN_KEY

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
# One text that is there for each kind of thing, so that many requests get past the look-up.
KNOWN = {
    "entity": "acme",
    "webhook_id": "wh_1",
    "automation_id": "aut_1",
    "name": "TOKEN",
    "user": "acme/member",
    "event_type": "RUN_METRIC",
}
# The key that all requests are made with must stay.
SPARED = {"revoke_key", "delete_user", "change_user", "delete_entity"}

_document = create_app(load_settings(secret_keys=Fernet.generate_key().decode())).openapi()
_config = SchemathesisConfig.from_dict(
    {
        "generation": {"with-security-parameters": False},
        "checks": {"negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, 409, 413, 415, 422]}},
    }
)
schema = schemathesis.openapi.from_dict(_document, config=_config)


@pytest.fixture(scope="module")
def seeded(
    sqlite_template: Path, valkey_url: str, keys_in_template: Keys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """A running API that has something of each kind."""
    folder = tmp_path_factory.mktemp("schemathesis")
    with Redis.from_url(valkey_url) as redis:
        redis.flushall()
    own = load_settings(
        data_dir=folder,
        redis_url=valkey_url,
        broker_url=valkey_url.removesuffix("/0") + "/1",
        database_url=f"sqlite:///{shutil.copy(sqlite_template, folder / 'hookline.db')}",
        secret_keys=Fernet.generate_key().decode(),
        admin_api_key=ADMIN_KEY,
    )
    bootstrap.prepare(own)
    with running(own) as client:
        api = Api(client, keys_in_template["sqlite"])
        put_secrets(api)
        create_webhook(api, webhook(url="https://127.0.0.1.invalid/"))
        create_automation(api, automation())
        yield api


@schema.parametrize()
@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_no_answer_is_outside_the_description(case: schemathesis.Case[Any], seeded: Api) -> None:
    if case.operation.definition.raw["operationId"] not in SPARED:
        for name in case.path_parameters.keys() & KNOWN.keys():
            case.path_parameters[name] = KNOWN[name]
    case.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
    arguments: dict[str, Any] = case.as_transport_kwargs(base_url="http://hookline")
    arguments.pop("verify", None)
    request = Request(**arguments).prepare()

    response = seeded.client.request(
        str(request.method), str(request.url), headers=dict(request.headers), content=request.body
    )

    case.validate_response(response, checks=CHECKS)
