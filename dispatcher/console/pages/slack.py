"""Slack integrations: the list, one with its state and uses, and making, testing, changing and deleting one."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from dispatcher.api.resources import ApiResources
from dispatcher.console.confirmation import Question, act_or_ask_again, ask
from dispatcher.console.entities import EntityDep, EntityVisit
from dispatcher.console.forms import Faults, Form, FormDep
from dispatcher.console.listing import list_url
from dispatcher.console.meanwhile import refuse_if_changed
from dispatcher.console.new_secrets import StoredNow, store_secret
from dispatcher.console.once import act_once
from dispatcher.console.pages.revisions import gone_page
from dispatcher.console.refusals import attempt
from dispatcher.console.rendering import pretty, render
from dispatcher.console.switches import SWITCHES, Switch
from dispatcher.console.visitors import ResourcesDep
from dispatcher.console.words import STATUSES, event_words
from dispatcher.control import deliveries, secrets, slack, webhook_trials
from dispatcher.control.access import Action
from dispatcher.control.definition_lists import list_slack
from dispatcher.control.errors import NotFound
from dispatcher.control.paging import MAX_LIMIT, PageRequest
from dispatcher.control.slack import SlackView
from dispatcher.control.webhook_trials import TrialView
from shared.delivery.webhook_trial import WebhookTrial
from shared.domain.errors import EndpointUnusable
from shared.domain.ids import IdKind
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/e/{entity}/settings/slack")
LISTED = 50
SHOWN_DELIVERIES = 10
FIELDS = ("name", "url_secret", "team", "channel")
USES = {"url_secret": "as the URL of this integration"}
"""What a secret that is made in the form can be for."""


@router.get("")
def slack_page(request: Request, visit: EntityDep, resources: ResourcesDep, done: str = "") -> Response:
    """The entity's Slack integrations, with the state of each and how deliveries went."""
    url = list_url(request, ())
    query = {"cursor": url.cursor or None, "limit": LISTED, "stats": True}
    with read_transaction(resources.engine) as connection:
        page = list_slack(connection, visit.principal, visit.entity, query)
    return render(request, "slack.html", page=page, url=url, done=done)


@router.get("/new")
def new_page(request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The form of a new integration."""
    visit.require(Action.ADMINISTER)
    return _form_page(request, visit, resources, None, Form(), Faults())


@router.get("/{slack_id}/edit")
def edit_page(slack_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The form of an integration that is there."""
    visit.require(Action.ADMINISTER)
    one = _slack(resources, visit, slack_id)
    fields = {name: [getattr(one, name) or ""] for name in FIELDS}
    return _form_page(request, visit, resources, one, Form({**fields, "revision": [str(one.revision)]}), Faults())


@router.post("/new")
def create(request: Request, visit: EntityDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Save a new integration, or a secret for it."""
    visit.require(Action.ADMINISTER)
    return _submit(request, visit, resources, form, None)


@router.post("/{slack_id}/edit")
def change(slack_id: str, request: Request, visit: EntityDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Save a changed integration, or a secret for it."""
    visit.require(Action.ADMINISTER)
    return _submit(request, visit, resources, form, _slack(resources, visit, slack_id))


def _submit(
    request: Request, visit: EntityVisit, resources: ApiResources, form: Form, one: SlackView | None
) -> Response:
    if form.has("store_secret"):
        stored = store_secret(resources, visit, form, USES)
        return _form_page(request, visit, resources, one, stored.form, stored.faults, stored)
    body: dict[str, Any] = {
        "name": form.text("name").strip(),
        "url_secret": form.text("url_secret"),
        "team": form.text("team").strip() or None,
        "channel": form.text("channel").strip() or None,
    }
    saved: list[SlackView] = []

    def act(connection: Connection) -> str:
        if one is None:
            given = {key: value for key, value in body.items() if value is not None}
            view = slack.create(connection, visit.principal, visit.entity, given, checks=resources.checks)
        else:
            found = (connection, visit.principal, visit.entity, one.id)
            refuse_if_changed(connection, form, "integration", lambda: slack.get(*found).revision)
            view = slack.change(*found, body, checks=resources.checks)
        saved.append(view)
        return f"{_path(visit)}/{view.id}?done={'created' if one is None else 'saved'}"

    led_to = attempt(lambda: act_once(resources, visit.principal, form, act), FIELDS)
    if isinstance(led_to, Faults):
        return _form_page(request, visit, resources, one, form, led_to)
    for view in saved:
        resources.wake_if_open(IdKind.SLACK, view)
    return RedirectResponse(led_to, 303)


def _form_page(
    request: Request,
    visit: EntityVisit,
    resources: ApiResources,
    one: SlackView | None,
    form: Form,
    faults: Faults,
    stored: StoredNow | None = None,
) -> Response:
    with read_transaction(resources.engine) as connection:
        kept = secrets.list_secrets(connection, visit.principal, visit.entity, PageRequest(MAX_LIMIT))
    return render(
        request,
        "slack_form.html",
        status=422 if faults.all else 200,
        slack=one,
        form=form,
        faults=faults,
        stored=stored,
        secret_names=[secret.name for secret in kept.items],
        secret_uses=USES,
    )


@router.get("/{slack_id}")
def one_page(slack_id: str, request: Request, visit: EntityDep, resources: ResourcesDep, done: str = "") -> Response:
    """One integration: its state, and its newest deliveries."""
    try:
        return _one_page(request, visit, resources, slack_id, done=done)
    except NotFound:
        return gone_page(request, visit, resources, IdKind.SLACK, slack_id)


def _one_page(
    request: Request,
    visit: EntityVisit,
    resources: ApiResources,
    slack_id: str,
    *,
    done: str = "",
    trial: TrialView | None = None,
    fault: str = "",
) -> Response:
    with read_transaction(resources.engine) as connection:
        one = slack.get(connection, visit.principal, visit.entity, slack_id)
        newest = deliveries.list_deliveries(
            connection, visit.principal, visit.entity, {"webhook": one.id}, PageRequest(SHOWN_DELIVERIES)
        )
    return render(
        request,
        "slack_one.html",
        status=422 if fault else 200,
        slack=one,
        deliveries=newest,
        statuses=STATUSES,
        event_words=event_words,
        done=done,
        trial=trial,
        fault=fault,
        body="" if trial is None else pretty(trial.request.body),
    )


@router.post("/{slack_id}/test")
async def test(slack_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Post one test message to the channel now."""
    visit.require(Action.ADMINISTER)
    try:
        trial = await run_in_threadpool(_prepared, resources, visit, slack_id)
    except EndpointUnusable as exc:
        fault = f"No message can be sent: {exc}."
        return await run_in_threadpool(_one_page, request, visit, resources, slack_id, fault=fault)
    view = webhook_trials.trial_view(trial, await resources.sender.send(trial.request))
    return await run_in_threadpool(_one_page, request, visit, resources, slack_id, trial=view)


def _prepared(resources: ApiResources, visit: EntityVisit, slack_id: str) -> WebhookTrial:
    with read_transaction(resources.engine) as connection:
        return webhook_trials.prepare_slack(
            connection,
            visit.principal,
            visit.entity,
            slack_id,
            vault=resources.vault,
            contexts=resources.sender.contexts,
            now=datetime.now(UTC),
        )


@router.get("/{slack_id}/delete")
def delete_page(slack_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Whether to delete an integration."""
    visit.require(Action.ADMINISTER)
    return ask(request, _question(visit, resources, slack_id))


def _question(visit: EntityVisit, resources: ApiResources, slack_id: str) -> Question:
    one = _slack(resources, visit, slack_id)
    path = f"{_path(visit)}/{one.id}"
    return Question(
        what="Slack integration",
        name=one.name,
        section="slack",
        words="What waits to be posted by it becomes dead letters. Its deliveries stay in the history.",
        back=path,
        trail=[("Slack", _path(visit)), (one.name, path)],
    )


@router.post("/{slack_id}/delete")
def delete(slack_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Delete an integration that no automation uses."""

    def act(connection: Connection) -> None:
        slack.delete(connection, visit.principal, visit.entity, slack_id)

    question = partial(_question, visit, resources, slack_id)
    return act_or_ask_again(request, resources, act, question, f"{_path(visit)}?done=deleted")


@router.post("/{slack_id}/{change}")
def switch(slack_id: str, change: Switch, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Pause, resume, enable or disable an integration."""
    with write_transaction(resources.engine) as connection:
        changed = slack.change(
            connection, visit.principal, visit.entity, slack_id, SWITCHES[change], checks=resources.checks
        )
    resources.wake_if_open(IdKind.SLACK, changed)
    return RedirectResponse(f"{_path(visit)}/{slack_id}?done={change}", 303)


def _slack(resources: ApiResources, visit: EntityVisit, slack_id: str) -> SlackView:
    with read_transaction(resources.engine) as connection:
        return slack.get(connection, visit.principal, visit.entity, slack_id)


def _path(visit: EntityVisit) -> str:
    return f"{visit.frame.path}/settings/slack"
