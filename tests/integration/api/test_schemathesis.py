"""Requests that schemathesis makes from the OpenAPI document, fit and unfit ones, get no answer that it does not name.

Each operation is tried alone, and must be reached: at least one request of each has to succeed. Then in chains, in
which what an answer names is used by later requests.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.generation.stateful.state_machine import StepInput, StepOutput
from schemathesis.pytest._test_builder import build_operation_test

from shared.settings import load_settings
from tests.integration.api.surface import (
    AUTOMATION,
    EVENT,
    EXAMPLES,
    KEY,
    SLACK,
    SOURCE,
    UNUSED_WEBHOOK,
    USER,
    WATCHING,
    WEBHOOK,
    Surface,
    surface,
)
from tests.integration.application import lent_application

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
CHAIN_CHECKS = ("use_after_free", "ensure_resource_availability")
# One that is there for each kind of thing, so that requests get past the look-up.
KNOWN = {
    "entity": "acme",
    "webhook_id": WEBHOOK,
    "slack_id": SLACK,
    "source_id": SOURCE,
    "automation_id": AUTOMATION,
    "key_id": KEY,
    "name": "UNUSED",
    "user": USER,
    "event_type": "RUN_METRIC",
    "project": "plain",
    "collection": "models",
}
UNUSED: dict[str, dict[str, Any]] = {
    "delete_entity": {"entity": "empty"},
    "delete_webhook": {"webhook_id": UNUSED_WEBHOOK},
    "get_series": {"automation_id": WATCHING},
    # Revisions have numbers in the order of edits: two webhooks, then the automation.
    **{f"{does}_webhook_revision": {"number": 1} for does in ("get", "restore")},
    **{f"{does}_slack_revision": {"number": 2} for does in ("get", "restore")},
    **{f"{does}_automation_revision": {"number": 4} for does in ("get", "restore")},
}
"""What may be deleted, since nothing refers to it, and what is there under another name than `KNOWN`'s."""
CREATES = {"create_webhook", "create_slack", "create_source", "create_automation", "create_key", "create_user"}
FEW_CHAINED = 5
"""So many different operations at least do what they do to something that an earlier answer named, in a short run."""
ALL_CHAINED = {f"{does}_{kind}" for does in ("get", "change", "delete") for kind in ("webhook", "slack", "automation")}
ALL_CHAINED |= {"get_user", "delete_user", "revoke_key", "test_webhook"}
"""What a long run must have done. A round leaves out what its random rules happen to leave out, so there are some."""
ROUNDS = 10
_numbers = itertools.count(1)

with lent_application(load_settings(secret_keys=Fernet.generate_key().decode())) as _app:
    _document = _app.openapi()
_config = SchemathesisConfig.from_dict(
    {
        "generation": {"with-security-parameters": False},
        "checks": {
            "enabled": False,
            **{name: {"enabled": True} for name in (*CHECKS, *CHAIN_CHECKS)},
            "negative_data_rejection": {
                "enabled": True,
                "expected-statuses": [400, 401, 403, 404, 405, 409, 412, 413, 415, 422],
            },
        },
    }
)
schema = schemathesis.openapi.from_dict(_document, config=_config)
_operations = {one["operationId"]: one for path in _document["paths"].values() for one in path.values()}
_examples = {name: _operations[name]["requestBody"]["content"]["application/json"] for name in CREATES}


@pytest.fixture(scope="module")
def seeded(sqlite_template: Path, valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surface]:
    """A running API that has something of each kind."""
    with surface(sqlite_template, valkey_url, tmp_path_factory.mktemp("schemathesis")) as opened:
        yield opened


@pytest.mark.parametrize("operation_id", sorted(_operations))
def test_no_answer_is_outside_the_description(operation_id: str, seeded: Surface) -> None:
    """What `schema.parametrize()` does, but only in the process that runs it, and not in each that collects it."""
    [found] = schema.include(operation_id=operation_id).get_all_operations()
    assert isinstance(found, Ok)
    tried = build_operation_test(
        config=schema.config,
        operation=found.ok(),
        test_func=_try,
        given_kwargs={},
        feedback=FeedbackSources(),
    )
    statuses: Counter[int] = Counter()
    tried(seeded=seeded, statuses=statuses)
    assert _succeeded(statuses), f"no request succeeded: {dict(statuses)}"


def _succeeded(answered: Counter[int]) -> bool:
    return any(200 <= status < 300 for status in answered)


@settings(
    max_examples=EXAMPLES or 5,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def _try(case: Case[Any], seeded: Surface, statuses: Counter[int]) -> None:
    seeded.restore()
    operation = _operation(case)
    known: dict[str, Any] = {**KNOWN, "delivery_id": seeded.delivery_id}
    known |= UNUSED.get(operation, {})
    for name in case.path_parameters.keys() & known.keys():
        case.path_parameters[name] = known[name]
    _rename(case, operation)
    if case.meta and case.meta.generation.mode.is_positive and not _succeeded(statuses):
        # Conditions and cursors that are right in form lead to nothing mostly.
        for header in ("if-match", "if-none-match"):
            case.headers.pop(header, None)
        case.query.pop("cursor", None)
        if operation in ("list_events", "list_entries"):  # times are right in form only by chance
            case.query.pop("since", None)
            case.query.pop("until", None)
        if operation == "get_series":
            case.query = {"run": "r1", "project": "digits"}
        if operation == "get_event":
            case.query = {"id": EVENT}

    response = seeded.send(case)

    statuses[response.status_code] += 1
    case.validate_response(response)


def test_what_answers_name_is_there_for_later_requests(seeded: Surface) -> None:
    chained: Counter[str] = Counter()

    class Chain(schema.as_state_machine()):  # type: ignore[misc]
        """From an operation that creates something to those that use it."""

        def setup(self) -> None:
            super().setup()
            seeded.restore()

        def step(self, input: StepInput) -> StepOutput:
            self.linked = {name for _, name in input.applied_parameters}
            output: StepOutput = super().step(input)
            if input.transition is not None and 200 <= output.response.status_code < 300 and self.linked:
                chained[_operation(input.case)] += 1
            return output

        def before_call(self, case: Case[Any]) -> None:
            operation = _operation(case)
            if case.meta and case.meta.generation.mode.is_positive and operation in CREATES:
                case.body = _example(operation)
            for name in case.path_parameters.keys() & KNOWN.keys() - self.linked:
                case.path_parameters[name] = KNOWN[name]
            _rename(case, operation)

        def call(self, case: Case[Any], **_kwargs: Any) -> Response:
            return Response.from_any(seeded.send(case))

    for _ in range(ROUNDS if EXAMPLES else 1):
        Chain.run(
            settings=settings(
                max_examples=EXAMPLES or 15,
                stateful_step_count=6,
                deadline=None,
                phases=[Phase.generate],
                derandomize=not EXAMPLES,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
        )
        if chained.keys() >= ALL_CHAINED:
            break
    assert len(chained) >= FEW_CHAINED, chained
    assert not EXAMPLES or chained.keys() >= ALL_CHAINED, chained


def _operation(case: Case[Any]) -> str:
    return str(case.operation.definition.raw["operationId"])


def _example(operation: str) -> Any:
    content = _examples[operation]
    example = content["example"] if "example" in content else next(iter(content["examples"].values()))["value"]
    return json.loads(json.dumps(example))


def _rename(case: Case[Any], operation: str) -> None:
    """Give what is to be created a name that is not taken: those of the examples are."""
    body: Any = case.body
    if operation in CREATES and isinstance(body, dict) and body.get("name") == _example(operation)["name"]:
        body["name"] += f"-{next(_numbers)}"
