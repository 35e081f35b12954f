"""Creating, changing, testing and deleting webhooks. A test can be sent from the form, before anything is saved."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from dispatcher.api.resources import ApiResources
from dispatcher.console.confirmation import Question, act_or_ask_again, ask
from dispatcher.console.entities import EntityDep, EntityVisit
from dispatcher.console.forms import Faults, Form, FormDep, faults_at, header_lines
from dispatcher.console.meanwhile import refuse_if_changed
from dispatcher.console.new_secrets import StoredNow, store_secret
from dispatcher.console.once import act_once
from dispatcher.console.rendering import pretty, render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.console.webhook_script import webhook_script
from dispatcher.control import secrets, webhook_trials, webhooks
from dispatcher.control.access import Action
from dispatcher.control.errors import Conflict
from dispatcher.control.paging import MAX_LIMIT, PageRequest
from dispatcher.control.webhook_trials import TrialView
from dispatcher.control.webhooks import WebhookView
from shared.delivery.webhook_trial import WebhookTrial
from shared.domain.delivery.retries import DeliveryPolicy
from shared.domain.delivery.signing import WandbSignature
from shared.domain.errors import EndpointUnusable, FieldError, InvalidDefinition
from shared.domain.ids import IdKind
from shared.domain.json_text import read_json
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/e/{entity}/settings/webhooks")
TRIED = ("payload", "payload_types")
"""The fields of a test, which are not saved."""
SECRET_FIELDS = ("url_secret", "access_token", "signing_secret", "former_signing_secret", "client_certificate")
FIELDS = (
    *("name", "url", *SECRET_FIELDS, "former_signing_until", "wandb_signature", "secrets", "policy", *TRIED),
    *("headers", "basic", "basic.user", "basic.password_secret"),
)
SECRET_USES = {
    "access_token": "as the access token",
    "signing_secret": "as the signing secret",
    "secrets": "in payloads, headers and URL",
    "basic.password_secret": "as the password",
    "url_secret": "as the whole URL",
    "client_certificate": "as the client certificate",
}
"""What a secret that is made in the form can be for."""
DRAFT_NAME = "unsaved"
"""The name of a webhook that is tested before it has one."""


class _Undone(Exception):
    """Rolls a transaction back whose only purpose was to look at its outcome."""


@router.get("/new")
def new_page(request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The form of a new webhook."""
    visit.require(Action.ADMINISTER)
    return _form_page(request, visit, resources, None, _blank(), Faults(), None)


@router.get("/{webhook_id}/edit")
def edit_page(webhook_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The form of a webhook that is there."""
    visit.require(Action.ADMINISTER)
    one = _webhook(resources, visit, webhook_id)
    until = one.former_signing_until
    fields = {
        "name": [one.name],
        "url": [one.url or ""],
        **{name: [getattr(one, name) or ""] for name in SECRET_FIELDS},
        "basic.user": ["" if one.basic is None else one.basic.user],
        "basic.password_secret": ["" if one.basic is None else one.basic.password_secret],
        "headers": ["\n".join(f"{name}: {value}" for name, value in one.headers.items())],
        "former_signing_until": ["" if until is None else until.isoformat().replace("+00:00", "Z")],
        "wandb_signature": [str(one.wandb_signature)],
        "secrets": one.secrets,
        "policy": [pretty(one.policy.model_dump(mode="json"))],
        "revision": [str(one.revision)],
    }
    return _form_page(request, visit, resources, one, Form(fields), Faults(), None)


def _blank() -> Form:
    return Form({"policy": [pretty(DeliveryPolicy().model_dump(mode="json"))]})


@router.post("/new")
async def create(request: Request, visit: EntityDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Save a new webhook, or send it a test request and save nothing."""
    return await _submit(request, visit, resources, form, None)


@router.post("/{webhook_id}/edit")
async def change(
    webhook_id: str, request: Request, visit: EntityDep, resources: ResourcesDep, form: FormDep
) -> Response:
    """Save a changed webhook, or send a test request to what it would be."""
    return await _submit(request, visit, resources, form, webhook_id)


async def _submit(
    request: Request, visit: EntityVisit, resources: ApiResources, form: Form, webhook_id: str | None
) -> Response:
    visit.require(Action.ADMINISTER)
    one = None if webhook_id is None else await run_in_threadpool(_webhook, resources, visit, webhook_id)

    async def again(faults: Faults, trial: TrialView | None = None) -> Response:
        return await run_in_threadpool(_form_page, request, visit, resources, one, form, faults, trial)

    if form.has("store_secret"):
        stored = await run_in_threadpool(store_secret, resources, visit, form, SECRET_USES)
        return await run_in_threadpool(
            _form_page, request, visit, resources, one, stored.form, stored.faults, None, stored
        )
    try:
        body = _body(form)
        if form.has("test"):
            trial = await run_in_threadpool(_draft_trial, resources, visit, one, body, form)
            return await again(Faults(), webhook_trials.trial_view(trial, await resources.sender.send(trial.request)))
        led_to = await run_in_threadpool(_save, resources, visit, one, body, form)
    except (InvalidDefinition, Conflict) as exc:
        return await again(faults_at(exc.errors, FIELDS, str(exc)))
    except EndpointUnusable as exc:
        return await again(Faults({"": [f"No request can be made to this webhook: {exc}"]}))
    return RedirectResponse(led_to, 303)


def _body(form: Form) -> dict[str, Any]:
    """The webhook's definition in the form. Raises InvalidDefinition for a policy that is no JSON."""
    members: dict[str, Any] = {"name": form.text("name").strip(), "url": form.text("url").strip() or None}
    for name in (*SECRET_FIELDS, "former_signing_until"):
        members[name] = form.text(name).strip() or None
    user, password = form.text("basic.user"), form.text("basic.password_secret")
    members["basic"] = {"user": user, "password_secret": password} if user or password else None
    members["headers"] = header_lines("headers", form.text("headers"), "X-Api-Key: ${KEY}")
    members["wandb_signature"] = form.text("wandb_signature") or WandbSignature.BASE64
    members["secrets"] = form.texts("secrets")
    members["policy"] = json_value("policy", form.text("policy"))
    return members


def json_value(field: str, text: str) -> Any:
    """The JSON in a field; an empty object for a blank one. Raises InvalidDefinition."""
    if not text.strip():
        return {}
    try:
        return read_json(text)
    except orjson.JSONDecodeError as exc:
        where = f"see line {exc.lineno}, column {exc.colno}"
        raise InvalidDefinition(FieldError((field,), f"must be JSON: {where}")) from None


def _save(
    resources: ApiResources, visit: EntityVisit, one: WebhookView | None, body: dict[str, Any], form: Form
) -> str:
    """Save the webhook, once, and return the path of its page."""
    saved: list[WebhookView] = []

    def act(connection: Connection) -> str:
        saved.append(_saved(connection, resources, visit, one, body, form))
        return f"{_path(visit)}/{saved[0].id}?done={'created' if one is None else 'saved'}"

    led_to = act_once(resources, visit.principal, form, act)
    for view in saved:
        resources.wake_if_open(IdKind.WEBHOOK, view)
    return led_to


def _saved(
    connection: Connection,
    resources: ApiResources,
    visit: EntityVisit,
    one: WebhookView | None,
    body: dict[str, Any],
    form: Form,
) -> WebhookView:
    if one is None:
        return webhooks.create(connection, visit.principal, visit.entity, body, checks=resources.checks)
    found = (connection, visit.principal, visit.entity, one.id)
    refuse_if_changed(connection, form, "webhook", lambda: webhooks.get(*found, vault=resources.vault).revision)
    return webhooks.replace(*found, body, checks=resources.checks)


def _draft_trial(
    resources: ApiResources, visit: EntityVisit, one: WebhookView | None, body: dict[str, Any], form: Form
) -> WebhookTrial:
    """The test request to a webhook as it would be: it is stored, read and taken back, in one transaction."""
    raw = _tried(form)
    body = {**body, "name": body["name"] or DRAFT_NAME}
    trial = None
    try:
        with write_transaction(resources.engine) as connection:
            if one is None:
                draft = webhooks.create(connection, visit.principal, visit.entity, body, checks=resources.checks)
            else:
                draft = webhooks.replace(
                    connection, visit.principal, visit.entity, one.id, body, checks=resources.checks
                )
            trial = webhook_trials.prepare(
                connection,
                visit.principal,
                visit.entity,
                draft.id,
                raw,
                vault=resources.vault,
                contexts=resources.sender.contexts,
                now=datetime.now(UTC),
            )
            raise _Undone
    except _Undone:
        assert trial is not None  # noqa: S101 - made just before
        return trial


def _webhook(resources: ApiResources, visit: EntityVisit, webhook_id: str) -> WebhookView:
    with read_transaction(resources.engine) as connection:
        return webhooks.get(connection, visit.principal, visit.entity, webhook_id, vault=resources.vault)


def _form_page(
    request: Request,
    visit: EntityVisit,
    resources: ApiResources,
    webhook: WebhookView | None,
    form: Form,
    faults: Faults,
    trial: TrialView | None,
    stored: StoredNow | None = None,
) -> Response:
    with read_transaction(resources.engine) as connection:
        kept = secrets.list_secrets(connection, visit.principal, visit.entity, PageRequest(MAX_LIMIT))
    return render(
        request,
        "webhook_form.html",
        status=422 if faults.all else 200,
        webhook=webhook,
        form=form,
        faults=faults,
        trial=trial,
        body="" if trial is None else pretty(trial.request.body),
        secret_names=[one.name for one in kept.items],
        stored=stored,
        secret_uses=SECRET_USES,
    )


@router.get("/{webhook_id}/test")
def test_page(webhook_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The form of a test request."""
    visit.require(Action.ADMINISTER)
    return _test_page(request, _webhook(resources, visit, webhook_id), Form(), Faults(), None)


@router.post("/{webhook_id}/test")
async def test(webhook_id: str, request: Request, visit: EntityDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Send one test request now; its payload is not kept."""
    visit.require(Action.ADMINISTER)
    one = await run_in_threadpool(_webhook, resources, visit, webhook_id)
    try:
        trial = await run_in_threadpool(_prepared, resources, visit, webhook_id, form)
    except InvalidDefinition as exc:
        return _test_page(request, one, form, faults_at(exc.errors, TRIED, str(exc)), None)
    except EndpointUnusable as exc:
        return _test_page(request, one, form, Faults({"": [f"No request can be made to this webhook: {exc}"]}), None)
    view = webhook_trials.trial_view(trial, await resources.sender.send(trial.request))
    return _test_page(request, one, form, Faults(), view)


def _prepared(resources: ApiResources, visit: EntityVisit, webhook_id: str, form: Form) -> WebhookTrial:
    raw = _tried(form)
    with read_transaction(resources.engine) as connection:
        return webhook_trials.prepare(
            connection,
            visit.principal,
            visit.entity,
            webhook_id,
            raw,
            vault=resources.vault,
            contexts=resources.sender.contexts,
            now=datetime.now(UTC),
        )


def _test_page(request: Request, webhook: WebhookView, form: Form, faults: Faults, trial: TrialView | None) -> Response:
    return render(
        request,
        "webhook_test.html",
        status=422 if faults.all else 200,
        webhook=webhook,
        form=form,
        faults=faults,
        trial=trial,
        body="" if trial is None else pretty(trial.request.body),
        script=webhook_script(
            webhook.url or "", _scripted(form.text("payload")) if trial is None else trial.request.body
        ),
    )


def _tried(form: Form) -> dict[str, Any]:
    """What is to be sent, as a test takes it. Raises InvalidDefinition for a payload that is no JSON."""
    text, types = form.text("payload"), form.text("payload_types")
    payload = {"payload": json_value("payload", text)} if text.strip() else {}
    return payload | ({"payload_types": types} if types else {})


def _scripted(text: str) -> Any:
    """The payload of a script: what was typed, if that can be read."""
    try:
        return json_value("payload", text)
    except InvalidDefinition:
        return {}


@router.get("/{webhook_id}/delete")
def delete_page(webhook_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Whether to delete a webhook."""
    visit.require(Action.ADMINISTER)
    return ask(request, _question(visit, resources, webhook_id))


def _question(visit: EntityVisit, resources: ApiResources, webhook_id: str) -> Question:
    one = _webhook(resources, visit, webhook_id)
    path = f"{_path(visit)}/{one.id}"
    return Question(
        what="webhook",
        name=one.name,
        section="webhooks",
        words="What waits to be delivered to it becomes dead letters. Its deliveries stay in the history.",
        back=path,
        trail=[("Webhooks", _path(visit)), (one.name, path)],
    )


@router.post("/{webhook_id}/delete")
def delete(webhook_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Delete a webhook that no automation uses."""

    def act(connection: Connection) -> None:
        webhooks.delete(connection, visit.principal, visit.entity, webhook_id)

    question = partial(_question, visit, resources, webhook_id)
    return act_or_ask_again(request, resources, act, question, f"{_path(visit)}?done=deleted")


def _path(visit: EntityVisit) -> str:
    return f"{visit.frame.path}/settings/webhooks"
