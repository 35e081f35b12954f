"""Creating, changing, trying and deleting sources. A request can be tried from the form, before anything is saved."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from dispatcher.api.resources import ApiResources
from dispatcher.console.confirmation import Question, act_or_ask_again, ask
from dispatcher.console.entities import EntityDep, EntityVisit
from dispatcher.console.forms import Faults, Form, FormDep, faults_at, header_lines
from dispatcher.console.json_fields import read_json_field, shown_json
from dispatcher.console.meanwhile import refuse_if_changed
from dispatcher.console.new_secrets import StoredNow, store_secret
from dispatcher.console.once import act_once
from dispatcher.console.pages.sources import proof_of, rules_of
from dispatcher.console.rendering import render
from dispatcher.console.switches import SWITCHES
from dispatcher.console.visitors import ResourcesDep
from dispatcher.console.words import SOURCE_KINDS
from dispatcher.control import secrets, source_trials, sources
from dispatcher.control.access import Action
from dispatcher.control.errors import Conflict
from dispatcher.control.paging import MAX_LIMIT, PageRequest
from dispatcher.control.source_trials import DRAFT_ID, SourceTrialView
from dispatcher.control.sources import SourceView
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.sources.model import SourceKind
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/e/{entity}/settings/sources")
TRIED = {"headers": "try_headers", "body": "try_body"}
"""The fields of a request that is tried, which are not saved, by the members of a trial."""
FIELDS = ("name", "kind", "secret", "former_secret", "project", "verify", "events")
FIELD_WORDS = {
    "kind": "service",
    "verify": "proof",
    "events": "rules",
    "try_headers": "headers of the request",
    "try_body": "body of the request",
}
"""What fields are called on the page, where it is not by their names."""
SECRET_USES = {"secret": "to prove its requests"}
"""What a secret that is made in the form is for."""
DRAFT = {"name": "unsaved", "secret": "UNSAVED"}
"""What a source has that is tried before its name and secret are chosen."""


@router.get("/new")
def new_page(request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The form of a new source."""
    visit.require(Action.ADMINISTER)
    return _form_page(request, visit, resources, None, Form(), Faults())


@router.get("/{source_id}/edit")
def edit_page(source_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The form of a source that is there."""
    visit.require(Action.ADMINISTER)
    one = _source(resources, visit, source_id)
    fields = {
        **{name: [str(getattr(one, name) or "")] for name in ("name", "kind", "secret", "former_secret", "project")},
        "verify": ["" if one.verify is None else shown_json(proof_of(one))],
        "events": [shown_json(rules_of(one)) if one.events else ""],
        "revision": [str(one.revision)],
    }
    return _form_page(request, visit, resources, one, Form(fields), Faults())


@router.post("/new")
def create(request: Request, visit: EntityDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Save a new source, or show what would become of a request and save nothing."""
    visit.require(Action.ADMINISTER)
    return _submit(request, visit, resources, form, None)


@router.post("/{source_id}/edit")
def change(source_id: str, request: Request, visit: EntityDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Save a changed source, or show what would become of a request to it."""
    visit.require(Action.ADMINISTER)
    return _submit(request, visit, resources, form, _source(resources, visit, source_id))


def _submit(
    request: Request, visit: EntityVisit, resources: ApiResources, form: Form, one: SourceView | None
) -> Response:
    if form.has("store_secret"):
        stored = store_secret(resources, visit, form, SECRET_USES)
        following = stored.form if one is None or not stored.name else _rotated(stored.form, one)
        return _form_page(request, visit, resources, one, following, stored.faults, stored=stored)
    try:
        body = _body(form)
        if form.has("test"):
            trial = _draft_trial(resources, visit, one, body, form)
            return _form_page(request, visit, resources, one, form, Faults(), trial=trial)
        led_to = act_once(resources, visit.principal, form, partial(_save, resources, visit, one, body, form))
    except (InvalidDefinition, Conflict) as exc:
        return _form_page(request, visit, resources, one, form, faults_at(exc.errors, _KNOWN, str(exc)))
    resources.sources.clear()
    return RedirectResponse(led_to, 303)


_KNOWN = (*FIELDS, *TRIED.values())


def _rotated(form: Form, one: SourceView) -> Form:
    """The form in which a new secret is chosen: the one before it is accepted as well, so that there is no gap."""
    return Form({**form.fields, "former_secret": [one.secret]})


def _body(form: Form) -> dict[str, Any]:
    """The definition in the form, but for `enabled`, which stays. Raises InvalidDefinition for what is no JSON."""
    faults: list[FieldError] = []
    members: dict[str, Any] = {
        "name": form.text("name").strip(),
        "kind": form.text("kind"),
        "secret": form.text("secret"),
        "former_secret": form.text("former_secret") or None,
        "project": form.text("project") or None,
        "verify": read_json_field("verify", form.text("verify"), faults),
    }
    rules = read_json_field("events", form.text("events"), faults)
    members["events"] = [] if rules is None else rules
    for name, words in (("kind", "must be chosen"), ("secret", "must be chosen: the service proves itself by it")):
        if not members[name] and not (name == "secret" and form.has("test")):
            faults.append(FieldError((name,), words))
    if faults:
        raise InvalidDefinition(*faults)
    return members


def _save(
    resources: ApiResources,
    visit: EntityVisit,
    one: SourceView | None,
    body: dict[str, Any],
    form: Form,
    connection: Connection,
) -> str:
    if one is None:
        view = sources.create(connection, visit.principal, visit.entity, body, checks=resources.checks)
        return f"{_path(visit)}/{view.id}?done=created"
    found = (connection, visit.principal, visit.entity, one.id)
    refuse_if_changed(connection, form, "source", lambda: sources.get(*found).revision)
    sources.replace(*found, body, checks=resources.checks)
    return f"{_path(visit)}/{one.id}?done=saved"


def _draft_trial(
    resources: ApiResources, visit: EntityVisit, one: SourceView | None, body: dict[str, Any], form: Form
) -> SourceTrialView:
    """What would become of a request to the source as it stands in the form. Raises InvalidDefinition."""
    definition = {**body, **{name: body[name] or text for name, text in DRAFT.items()}}
    source_id = DRAFT_ID if one is None else one.id
    raw = _tried(form)
    with read_transaction(resources.engine) as connection:
        return source_trials.try_draft(connection, visit.principal, visit.entity, definition, raw, source_id=source_id)


def _tried(form: Form) -> dict[str, Any]:
    """The request in the form, as a trial takes it. Raises InvalidDefinition for what are no headers."""
    headers = header_lines(TRIED["headers"], form.text(TRIED["headers"]), "X-GitHub-Event: push")
    if len(headers) > source_trials.MAX_HEADERS:
        message = f"must be at most {source_trials.MAX_HEADERS} headers"
        raise InvalidDefinition(FieldError((TRIED["headers"],), message))
    return {"headers": headers, "body": form.text(TRIED["body"])}


def _source(resources: ApiResources, visit: EntityVisit, source_id: str) -> SourceView:
    with read_transaction(resources.engine) as connection:
        return sources.get(connection, visit.principal, visit.entity, source_id)


def _form_page(
    request: Request,
    visit: EntityVisit,
    resources: ApiResources,
    source: SourceView | None,
    form: Form,
    faults: Faults,
    *,
    trial: SourceTrialView | None = None,
    stored: StoredNow | None = None,
) -> Response:
    with read_transaction(resources.engine) as connection:
        kept = secrets.list_secrets(connection, visit.principal, visit.entity, PageRequest(MAX_LIMIT))
    return render(
        request,
        "source_form.html",
        status=422 if faults.all else 200,
        source=source,
        form=form,
        faults=faults,
        field_words=FIELD_WORDS,
        trial=trial,
        stored=stored,
        kinds=[(str(kind), SOURCE_KINDS[kind]) for kind in SourceKind],
        generic=str(SourceKind.GENERIC),
        secret_names=[one.name for one in kept.items],
        secret_uses=SECRET_USES,
    )


@router.get("/{source_id}/test")
def test_page(source_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The form of a request to try."""
    return _test_page(request, _source(resources, visit, source_id), Form(), Faults(), None)


@router.post("/{source_id}/test")
def test(source_id: str, request: Request, visit: EntityDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Show what would become of a request to a source. Nothing is published or stored."""
    source = _source(resources, visit, source_id)
    try:
        raw = _tried(form)
        with read_transaction(resources.engine) as connection:
            trial = source_trials.try_request(connection, visit.principal, visit.entity, source_id, raw)
    except InvalidDefinition as exc:
        return _test_page(request, source, form, faults_at(exc.errors, _KNOWN, str(exc)), None)
    return _test_page(request, source, form, Faults(), trial)


def _test_page(
    request: Request, source: SourceView, form: Form, faults: Faults, trial: SourceTrialView | None
) -> Response:
    return render(
        request,
        "source_test.html",
        status=422 if faults.all else 200,
        source=source,
        form=form,
        faults=faults,
        field_words=FIELD_WORDS,
        trial=trial,
    )


@router.get("/{source_id}/delete")
def delete_page(source_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Whether to delete a source."""
    visit.require(Action.ADMINISTER)
    return ask(request, _question(visit, resources, source_id))


def _question(visit: EntityVisit, resources: ApiResources, source_id: str) -> Question:
    one = _source(resources, visit, source_id)
    path = f"{_path(visit)}/{one.id}"
    return Question(
        what="source",
        name=one.name,
        section="sources",
        words="Its URL takes nothing from then on, also when a source of this name is made again, and its history of"
        " requests is lost. The events that it made stay, with their deliveries.",
        back=path,
        trail=[("Sources", _path(visit)), (one.name, path)],
    )


@router.post("/{source_id}/delete")
def delete(source_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Delete a source with its history."""

    def act(connection: Connection) -> None:
        sources.delete(connection, visit.principal, visit.entity, source_id)

    question = partial(_question, visit, resources, source_id)
    answer = act_or_ask_again(request, resources, act, question, f"{_path(visit)}?done=deleted")
    resources.sources.clear()
    return answer


@router.post("/{source_id}/{switched}")
def switch(
    source_id: str, switched: Literal["enable", "disable"], visit: EntityDep, resources: ResourcesDep
) -> Response:
    """Let a source's requests become events, or only answer them."""
    with write_transaction(resources.engine) as connection:
        sources.change(
            connection, visit.principal, visit.entity, source_id, SWITCHES[switched], checks=resources.checks
        )
    resources.sources.clear()
    return RedirectResponse(f"{_path(visit)}/{source_id}?done={switched}", 303)


def _path(visit: EntityVisit) -> str:
    return f"{visit.frame.path}/settings/sources"
