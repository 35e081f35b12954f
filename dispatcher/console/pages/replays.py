"""Replaying all deliveries that match: first how many and to whom, then how far it has come.

What is replayed is what was counted: the end of the span is fixed when the page is made, and a count that is another
one by then is shown again instead.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from dispatcher.api.resources import ApiResources
from dispatcher.console.confirmation import Question, ask
from dispatcher.console.entities import EntityDep, EntityVisit
from dispatcher.console.forms import Faults, Form, FormDep, faults_at
from dispatcher.console.once import act_once
from dispatcher.console.pages.deliveries import FILTERS
from dispatcher.console.rendering import digest, render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.console.words import STATUSES
from dispatcher.control import deliveries, replays
from dispatcher.control.access import Action
from dispatcher.control.deliveries import MAX_REPLAYED, ReplayedDeliveries, ReplayPreview
from dispatcher.control.errors import Conflict
from shared.domain.errors import FieldError, InvalidDefinition
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/e/{entity}/deliveries")
PACES = ("", "1/s", "10/s", "100/s", "1/min", "10/min")
REPLAYABLE = ("dead", "refused", "skipped", "delivered")


@router.get("/replay")
def replay_page(request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """What a replay with these filters would send."""
    visit.require(Action.ADMINISTER)
    query = request.query_params
    given = {name: [query.get(name, "").strip()] for name in (*FILTERS, "rate")}
    # By itself a replay leaves out what was replayed before; a box that was cleared is not in the query.
    unreplayed = "counted" not in query or "unreplayed" in query
    return _page(request, visit, resources, Form({**given, **({"unreplayed": ["1"]} if unreplayed else {})}), Faults())


@router.post("/replay")
def replay(request: Request, visit: EntityDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Replay what was counted."""
    visit.require(Action.ADMINISTER)
    wanted, rate = _wanted(form), form.text("rate").strip()
    woken: list[int] = []

    def act(connection: Connection) -> str:
        preview = _preview(connection, visit, form, wanted)
        if form.text("count") != str(preview.count):
            raise Conflict("there are more or fewer deliveries now than you were shown: look at the new number")
        body = {**wanted, "unreplayed": form.has("unreplayed"), **({"rate": rate} if rate else {})}
        made: ReplayedDeliveries = deliveries.replay_matching(connection, visit.principal, visit.entity, body)
        number = replays.replay_id(connection, made.ids)
        if number is None:
            raise Conflict("there is nothing to replay")
        woken.extend(made.webhook_ids)
        return f"{visit.frame.path}/deliveries/replays/{number}?done=begun"

    try:
        led_to = act_once(resources, visit.principal, form, act)
    except (InvalidDefinition, Conflict) as exc:
        return _page(request, visit, resources, form, faults_at(exc.errors, (*FILTERS, "rate"), str(exc)))
    resources.wake(woken)
    return RedirectResponse(led_to, 303)


def _wanted(form: Form) -> dict[str, Any]:
    """The filters in the form, as control takes them."""
    return {name: form.text(name).strip() for name in FILTERS if form.text(name).strip()}


def _preview(connection: Connection, visit: EntityVisit, form: Form, wanted: dict[str, Any]) -> ReplayPreview:
    if not wanted:
        raise InvalidDefinition(FieldError((), "choose at least one filter, such as a status or a webhook"))
    return deliveries.preview_replay(
        connection, visit.principal, visit.entity, wanted, unreplayed=form.has("unreplayed")
    )


def _page(request: Request, visit: EntityVisit, resources: ApiResources, form: Form, faults: Faults) -> Response:
    if not form.text("until").strip():
        # Rounded up, so that what was created a moment ago is before it.
        now = datetime.now(UTC) + timedelta(milliseconds=1)
        form = Form({**form.fields, "until": [now.isoformat(timespec="milliseconds").replace("+00:00", "Z")]})
    wanted, preview = _wanted(form), None
    try:
        with read_transaction(resources.engine) as connection:
            if wanted.keys() - {"until"}:
                preview = _preview(connection, visit, form, wanted)
    except InvalidDefinition as exc:
        faults = faults_at(exc.errors, FILTERS, str(exc)) if not faults.all else faults
    return render(
        request,
        "replay.html",
        status=422 if faults.all else 200,
        form=form,
        faults=faults,
        preview=preview,
        most=MAX_REPLAYED,
        statuses=STATUSES,
        replayable=REPLAYABLE,
        filters=FILTERS,
        paces=PACES,
    )


@router.get("/replays/{replay_id}")
def progress_page(
    replay_id: str, request: Request, visit: EntityDep, resources: ResourcesDep, done: str = "", seen: str = ""
) -> Response:
    """How far a replay has come. Nothing if that was seen already."""
    with read_transaction(resources.engine) as connection:
        one = replays.get(connection, visit.principal, visit.entity, replay_id)
    if seen == digest(one):
        return Response(status_code=204)
    return render(request, "replay_progress.html", replay=one, statuses=STATUSES, done=done)


@router.get("/replays/{replay_id}/stop")
def stop_page(replay_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Whether to stop a replay."""
    visit.require(Action.ADMINISTER)
    with read_transaction(resources.engine) as connection:
        one = replays.get(connection, visit.principal, visit.entity, replay_id)
    path = f"{visit.frame.path}/deliveries"
    question = Question(
        what="replay",
        name=one.id,
        section="deliveries",
        words=f"The {one.pending} of {one.total} deliveries that wait still are held back and not sent. They can be "
        "replayed by another replay.",
        back=f"{path}/replays/{one.id}",
        trail=[("Deliveries", path), ("Replay", f"{path}/replays/{one.id}")],
        verb="Stop",
        icon="circle-stop",
    )
    return ask(request, question)


@router.post("/replays/{replay_id}/stop")
def stop(replay_id: str, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Hold back what waits of a replay."""
    with write_transaction(resources.engine) as connection:
        replays.stop(connection, visit.principal, visit.entity, replay_id)
    return RedirectResponse(f"{visit.frame.path}/deliveries/replays/{replay_id}?done=stopped", 303)
