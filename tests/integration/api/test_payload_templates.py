"""Payload templates against endpoints that ask for what each service's public reference does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from click.testing import CliRunner

from dispatcher.cli import main
from dispatcher.control.payload_templates.services import TEMPLATES
from dispatcher.control.payload_templates.words import words_of
from shared.domain.automations.model import Grants
from shared.domain.automations.parsing import parse_automation
from shared.domain.events.decoding import check_event
from shared.domain.events.types import ARTIFACT_TYPES, RUN_TYPES, EventType
from shared.domain.matching.firing_rules import asked_by
from shared.domain.payloads.content_types import header_of
from shared.domain.payloads.sealed import content_type_of, open_payload
from shared.domain.payloads.variables import MetricFacts, payload_values
from tests.integration.api.conftest import ACME, Api
from tests.integration.receiver import Answer, Received, Receiver, receiving
from tests.integration.services import SECRETS, SERVICES, Service
from tests.unit.domain.samples import event as sample

HOSTILE = '<!channel> @everyone "quoted"\\ $5 ${GITHUB_TOKEN} & é'


def bare(event_type: EventType) -> Any:
    """An event with nothing but what it must have."""
    raw = sample(event_type)
    raw["data"].pop("author", None)
    raw.pop("time", None)
    if event_type in ARTIFACT_TYPES:
        raw["data"]["artifact"] = {"id": "a"}
    if event_type in RUN_TYPES:
        raw["data"]["run"] = {"id": "r1"}
    raw["data"].pop("reason", None)
    return raw


def hostile(event_type: EventType) -> Any:
    """An event whose texts are what no service should take for more than text."""
    raw = sample(event_type, author=HOSTILE)
    if event_type in RUN_TYPES:
        raw["data"]["run"] = {"id": "r1", "name": HOSTILE, "config": {"lr": 0.1}}
    if event_type in ARTIFACT_TYPES:
        raw["data"]["collection"]["name"] = HOSTILE
        raw["data"]["artifact"] = {"id": "a", "version": HOSTILE, "metadata": {"note": HOSTILE, "n": [1]}}
    return raw


def rendered(name: str, event_type: EventType, raw: Any) -> Received:
    """The request that a template's automation makes of an event, as far as its body."""
    template = TEMPLATES[name]
    conditions = {"conditions": [{"metric": "m", "finite": False}]} if event_type is EventType.RUN_METRIC else {}
    states = {"states": ["failed"]} if event_type is EventType.RUN_STATE else {}
    definition = {"name": "n", "event": str(event_type), "action": template.action(words_of(event_type))}
    grants = Grants(frozenset(template.webhook.get("secrets", ())), "access_token" in template.webhook)
    automation = parse_automation({**definition, **conditions, **states}, lambda _name: grants)
    assert automation.template is not None
    metric = MetricFacts("val/loss", 5, None, step=1) if event_type is EventType.RUN_METRIC else None
    asked = asked_by(automation)
    values = payload_values(check_event(raw), delivery_id="dlv_x", metric=metric, asked=asked)
    sealed = automation.template.render(values)
    service = SERVICES[name]
    headers = {
        **service.headers,
        "content-type": header_of(content_type_of(sealed)),
        "user-agent": "hookline",
        **({} if service.authorization is None else {"authorization": service.authorization}),
    }
    return Received(service.path, headers, open_payload(sealed, SECRETS))


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_type_of_event_makes_what_the_service_asks_for(name: str) -> None:
    for event_type in EventType:
        for raw in (sample(event_type), bare(event_type), hostile(event_type)):
            assert SERVICES[name].faults(rendered(name, event_type, raw)) == [], event_type


def test_every_template_has_a_contract_and_says_what_its_secrets_are() -> None:
    assert TEMPLATES.keys() == SERVICES.keys()
    for template in TEMPLATES.values():
        members = template.webhook
        named = {members.get(one) for one in ("access_token", "url_secret")} - {None}
        named |= set(members.get("secrets", ())) | {members.get("basic", {}).get("password_secret")} - {None}
        assert named == template.secrets.keys(), template.name


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


def webhook_of(name: str, receiver: Receiver) -> dict[str, Any]:
    """The template's webhook, sent to the receiver."""
    webhook: dict[str, Any] = dict(TEMPLATES[name].webhook)
    if "url" in webhook:
        webhook["url"] = receiver.url + urlsplit(webhook["url"]).path
    return webhook


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_request_goes_out_as_the_service_asks_for(api: Api, receiver: Receiver, name: str) -> None:
    service = SERVICES[name]
    for secret in TEMPLATES[name].secrets:
        value = receiver.url + SECRETS[secret] if secret.endswith("_URL") else SECRETS[secret]
        api.ok("PUT", f"{ACME}/secrets/{secret}", {"value": value}, status=201)
    detail = api.ok("GET", f"/v1/payload-templates/{name}?event=ADD_ARTIFACT_ALIAS")
    hook = api.ok("POST", f"{ACME}/webhooks", webhook_of(name, receiver), status=201)
    body = {"name": "n", "event": "ADD_ARTIFACT_ALIAS", "action": detail["action"]}
    made = api.ok("POST", f"{ACME}/automations", body, status=201)
    assert made["action"]["payload_types"] == detail["action"]["payload_types"]

    faults: list[str] = []
    receiver.answer = lambda request: _answer(service, request, faults)
    tried = api.ok("POST", f"{ACME}/automations/{made['id']}/test", {"event": sample("ADD_ARTIFACT_ALIAS")})
    assert faults == []
    assert (tried["outcome"], tried["code"]) == ("2xx", "accepted"), tried
    if service.failure is not None:
        failure = service.failure
        receiver.answer = lambda _request: failure
        failed = api.ok("POST", f"{ACME}/webhooks/{hook['id']}/test", {"payload": {}})
        assert failed["outcome"] == "unsuccessful", failed
    shown = "".join(api.answers)
    assert not [secret for secret in TEMPLATES[name].secrets if SECRETS[secret] in shown]


def _answer(service: Service, request: Received, faults: list[str]) -> Answer:
    faults += service.faults(request)
    return Answer(400, body=b"bad request") if faults else service.answer


def test_templates_are_listed_and_shown(api: Api) -> None:
    listed = api.ok("GET", "/v1/payload-templates")["items"]
    assert [one["name"] for one in listed] == list(TEMPLATES)
    assert listed[0].keys() == {"name", "service", "summary", "reference"}
    shown = api.ok("GET", "/v1/payload-templates/pagerduty?event=RUN_METRIC")
    assert shown["event"] == "RUN_METRIC"
    assert shown["action"]["payload"]["payload"]["custom_details"]["value"] == "${metric_value}"
    assert "metric_value" in shown["variables"]
    assert "run_config.<KEY>" in shown["variables"]
    assert not [name for name in shown["variables"] if name.startswith("artifact")]
    assert "pagerduty" in api.refused("GET", "/v1/payload-templates/none", status=404).detail
    assert api.refused("GET", "/v1/payload-templates/discord?event=NONE", status=422).locs


@pytest.fixture
def commands_say() -> dict[str, str]:
    """What the commands print; asked before there is an API in this process, whose log would get between the lines."""
    runner = CliRunner()
    shown = {
        event_type: runner.invoke(main, ["templates", "show", "opsgenie", "--event", event_type]).stdout
        for event_type in ("RUN_METRIC", "RUN_STATE", "LINK_ARTIFACT")
    }
    return {"list": runner.invoke(main, ["templates", "list"]).stdout, **shown}


def test_a_template_is_a_document_that_can_be_applied(commands_say: dict[str, str], api: Api) -> None:
    assert [line.split()[0] for line in commands_say.pop("list").splitlines()] == list(TEMPLATES)
    for event_type, text in commands_say.items():
        document = yaml.safe_load(text)
        assert "Secret OPSGENIE_KEY" in text
        api.ok(
            "PUT",
            f"{ACME}/secrets/OPSGENIE_KEY",
            {"value": SECRETS["OPSGENIE_KEY"]},
            status=201 if event_type == "RUN_METRIC" else 200,
        )
        del document["entity"]
        changes = api.ok("POST", f"{ACME}/apply", document)["changes"]
        assert changes[-1]["change"] == "created"
    runner = CliRunner()
    assert runner.invoke(main, ["templates", "show", "none"]).exit_code == 2
    assert "must be one of" in runner.invoke(main, ["templates", "show", "discord", "--event", "NONE"]).output
