"""Entities and their quotas, for instance administrators."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from dispatcher.api.resources import ApiResources
from dispatcher.console.administration import AdminDep
from dispatcher.console.confirmation import Question, act_or_ask_again, ask
from dispatcher.console.forms import Faults, Form, FormDep, faults_at
from dispatcher.console.listing import list_url
from dispatcher.console.once import act_once
from dispatcher.console.refusals import attempt
from dispatcher.console.rendering import render
from dispatcher.console.visitors import ResourcesDep, Visitor
from dispatcher.control import catalog
from dispatcher.control.catalog import EntityDetail
from dispatcher.control.errors import Conflict
from dispatcher.control.paging import page_request
from dispatcher.control.removal import delete_entity
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.quotas import DEFAULT_LIMITS, EVENTS_PER_SECOND, Quota
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/admin/entities")
LISTED = 100
QUOTA_WORDS = {
    Quota.AUTOMATIONS: "Automations",
    Quota.WEBHOOKS: "Webhooks and Slack integrations",
    Quota.SECRETS: "Secrets",
    Quota.SOURCES: "Sources",
    Quota.DEFINITION_BYTES: "Bytes of automations' definitions",
}
RATE = f"quotas.{EVENTS_PER_SECOND}"
FIELDS = ("entity", "kind", "parent", RATE, *(f"quotas.{quota.value}" for quota in Quota))


@router.get("")
def entities_page(request: Request, visitor: AdminDep, resources: ResourcesDep, done: str = "") -> Response:
    """All entities."""
    return _entities_page(request, visitor, resources, Faults(), Form(), done)


def _entities_page(
    request: Request, visitor: Visitor, resources: ApiResources, faults: Faults, form: Form, done: str = ""
) -> Response:
    url = list_url(request, ())
    with read_transaction(resources.engine) as connection:
        page = catalog.list_entities(connection, visitor.principal, page_request(LISTED, url.cursor or None))
    return render(
        request,
        "admin_entities.html",
        status=422 if faults.all else 200,
        page=page,
        url=url,
        faults=faults,
        form=form,
        done=done,
    )


@router.post("")
def create(request: Request, visitor: AdminDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Create an entity."""
    name = form.text("entity").strip()
    body = {"kind": form.text("kind"), "parent": form.text("parent").strip() or None}

    def act(connection: Connection) -> str:
        _, is_new = catalog.put_entity(connection, visitor.principal, name, body)
        if not is_new:
            taken = "must be a new name: there is an entity of this name"
            raise Conflict(taken, FieldError(("entity",), taken))
        return f"/console/admin/entities/{name}?done=created"

    led_to = attempt(lambda: act_once(resources, visitor.principal, form, act), FIELDS)
    if isinstance(led_to, Faults):
        return _entities_page(request, visitor, resources, led_to, form)
    resources.callers.clear()
    return RedirectResponse(led_to, 303)


@router.get("/{entity}")
def entity_page(entity: str, request: Request, visitor: AdminDep, resources: ResourcesDep, done: str = "") -> Response:
    """One entity, with its quotas."""
    return _entity_page(request, visitor, resources, entity, Faults(), None, done)


def _entity_page(
    request: Request,
    visitor: Visitor,
    resources: ApiResources,
    name: str,
    faults: Faults,
    form: Form | None,
    done: str = "",
) -> Response:
    with read_transaction(resources.engine) as connection:
        one = catalog.get_entity(connection, visitor.principal, name)
    return render(
        request,
        "admin_entity.html",
        status=422 if faults.all else 200,
        one=one,
        quota_words=QUOTA_WORDS,
        defaults=DEFAULT_LIMITS,
        faults=faults,
        form=_form_of(one) if form is None else form,
        done=done,
    )


def _form_of(one: EntityDetail) -> Form:
    limits = {
        f"quotas.{name}": ["" if quota.limit == DEFAULT_LIMITS[Quota(name)] else str(quota.limit)]
        for name, quota in one.quotas.items()
    }
    hidden = {"answers_hidden": ["1"]} if one.answers_hidden else {}
    rate = "" if one.events_per_second is None else str(one.events_per_second)
    return Form({"kind": [one.kind], "parent": [one.parent or ""], RATE: [rate], **hidden, **limits})


@router.post("/{entity}")
def change(entity: str, request: Request, visitor: AdminDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Save an entity's kind, parent, settings and quotas."""
    try:
        quotas = _quotas(form)
        with write_transaction(resources.engine) as connection:
            catalog.get_entity(connection, visitor.principal, entity)  # a PUT would create it
            body = {"kind": form.text("kind"), "parent": form.text("parent").strip() or None}
            catalog.put_entity(connection, visitor.principal, entity, body)
            patch = {"answers_hidden": form.has("answers_hidden"), "quotas": quotas}
            catalog.change_entity(connection, visitor.principal, entity, patch)
    except (InvalidDefinition, Conflict) as exc:
        return _entity_page(request, visitor, resources, entity, faults_at(exc.errors, FIELDS, str(exc)), form)
    return RedirectResponse(f"/console/admin/entities/{entity}?done=saved", 303)


def _quotas(form: Form) -> dict[str, Any]:
    """The limits in the form; a blank one is the default, or no limit of events. Raises InvalidDefinition."""
    limits: dict[str, Any] = {}
    faults = []
    for name in (*(quota.value for quota in Quota), EVENTS_PER_SECOND):
        text = form.text(f"quotas.{name}").strip()
        if text and not (text.isascii() and text.isdecimal() and len(text) < 16):
            faults.append(FieldError(("quotas", name), "must be a whole number, or blank for the default"))
        else:
            limits[name] = int(text) if text else None
    if faults:
        raise InvalidDefinition(*faults)
    return limits


@router.get("/{entity}/delete")
def delete_page(entity: str, request: Request, visitor: AdminDep, resources: ResourcesDep) -> Response:
    """Whether to delete an entity."""
    with read_transaction(resources.engine) as connection:
        catalog.get_entity(connection, visitor.principal, entity)
    return ask(request, _question(entity))


def _question(name: str) -> Question:
    path = f"/console/admin/entities/{name}"
    return Question(
        what="entity",
        name=name,
        section="admin-entities",
        words="Its service users, projects and collections go with it. One that was ever used can't be deleted.",
        back=path,
        trail=[("Entities", "/console/admin/entities"), (name, path)],
    )


@router.post("/{entity}/delete")
def delete(entity: str, request: Request, visitor: AdminDep, resources: ResourcesDep) -> Response:
    """Delete an entity that was never used."""

    def act(connection: Connection) -> None:
        delete_entity(connection, visitor.principal, entity)

    led_to = "/console/admin/entities?done=deleted"
    return act_or_ask_again(request, resources, act, lambda: _question(entity), led_to)
