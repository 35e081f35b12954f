"""Secrets: their names and uses, and forms into which values go and never come back."""

from __future__ import annotations

import json
from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from dispatcher.api.resources import ApiResources
from dispatcher.console.confirmation import Question, act_or_ask_again, ask
from dispatcher.console.entities import EntityDep, EntityVisit
from dispatcher.console.forms import Faults, FormDep
from dispatcher.console.listing import list_url
from dispatcher.console.new_secrets import generated_secret, making
from dispatcher.console.once import act_once
from dispatcher.console.refusals import attempt
from dispatcher.console.rendering import render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.control import secrets
from dispatcher.control.access import Action
from dispatcher.control.paging import page_request
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/e/{entity}/settings/secrets")
LISTED = 100


@router.get("")
def secrets_page(request: Request, visit: EntityDep, resources: ResourcesDep, done: str = "") -> Response:
    """The entity's secrets without their values."""
    url = list_url(request, ())
    with read_transaction(resources.engine) as connection:
        page = secrets.list_secrets(connection, visit.principal, visit.entity, page_request(LISTED, url.cursor or None))
    return render(request, "secrets.html", page=page, url=url, done=done)


@router.get("/new")
def new_page(request: Request, visit: EntityDep, name: str = "") -> Response:
    """The form of a new secret, or of a new value for one."""
    visit.require(Action.ADMINISTER)
    return _form_page(request, name, Faults())


def _form_page(request: Request, name: str, faults: Faults) -> Response:
    return render(request, "secret_form.html", status=422 if faults.all else 200, name=name, faults=faults)


@router.post("")
def put(request: Request, visit: EntityDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Store a value, or one that is made here and shown this once."""
    name, value = form.text("name").strip(), form.text("value")
    generated = generated_secret() if form.has("generate") else ""

    def act(connection: Connection) -> str:
        view, is_new = secrets.put(
            connection,
            visit.principal,
            visit.entity,
            name,
            {"value": generated or value},
            vault=resources.vault,
            settings=resources.settings,
        )
        done = "short" if view.warning else "created" if is_new else "replaced"
        return json.dumps({"generated": generated, "done": done})

    visit.require(Action.ADMINISTER)
    kept = attempt(lambda: act_once(resources, visit.principal, form, act, makes=making(name)), ("name", "value"))
    if isinstance(kept, Faults):
        return _form_page(request, name, kept)
    stored = json.loads(kept)
    if stored["generated"]:
        return render(request, "secret_made.html", name=name, value=stored["generated"])
    return RedirectResponse(f"{_path(visit)}?done={stored['done']}", 303)


@router.get("/{name}/delete")
def delete_page(name: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Whether to delete a secret."""
    visit.require(Action.ADMINISTER)
    return ask(request, _question(visit, resources, name))


def _question(visit: EntityVisit, resources: ApiResources, name: str) -> Question:
    with read_transaction(resources.engine) as connection:
        one = secrets.get(connection, visit.principal, visit.entity, name)
    return Question(
        what="secret",
        name=one.name,
        section="secrets",
        words="Its value can't be read or brought back.",
        users=[f"the webhook or source {user}" for user in one.used_by],
        back=_path(visit),
        trail=[("Secrets", _path(visit))],
    )


@router.post("/{name}/delete")
def delete(name: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Delete a secret that nothing uses."""

    def act(connection: Connection) -> None:
        secrets.delete(connection, visit.principal, visit.entity, name)

    question = partial(_question, visit, resources, name)
    return act_or_ask_again(request, resources, act, question, f"{_path(visit)}?done=deleted")


def _path(visit: EntityVisit) -> str:
    return f"{visit.frame.path}/settings/secrets"
