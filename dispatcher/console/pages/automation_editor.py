"""The editor of automations, with a preview of what the edited automation would have done to the last hours' events."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from redis.exceptions import RedisError
from sqlalchemy import Connection

from dispatcher.api.resources import ApiResources
from dispatcher.console.automation_forms import FIELDS, definition_of, form_of
from dispatcher.console.condition_forms import BLANK, COLUMNS, KINDS
from dispatcher.console.editor_choices import COMMON_FIELDS, blank_variables, choices_of, variables_for
from dispatcher.console.entities import EntityDep, EntityVisit
from dispatcher.console.filter_forms import MODES, OPERATORS, subject_of
from dispatcher.console.forms import Faults, Form, FormDep, faults_at
from dispatcher.console.json_fields import shown_json
from dispatcher.console.meanwhile import ChangedMeanwhile, refuse_if_changed
from dispatcher.console.metric_plots import ConditionPlot, condition_plot
from dispatcher.console.once import act_once
from dispatcher.console.rendering import render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.console.words import EVENTS, OUTCOMES, REASONS, event_words
from dispatcher.control import automations, previews, revisions
from dispatcher.control.errors import Conflict
from dispatcher.control.paging import PageRequest
from dispatcher.control.payload_templates.services import TEMPLATES
from dispatcher.control.payload_templates.words import words_of
from dispatcher.control.revisions import RevisionView
from shared.domain.errors import InvalidDefinition
from shared.domain.events.types import EventType, RunPhase
from shared.domain.ids import IdKind
from shared.domain.payloads.content_types import FORM, PLAIN
from shared.dry_runs.preview import Preview
from shared.messaging.redis_clients import open_redis
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/e/{entity}/automations")
SINCE = ("15m", "1h", "6h", "24h")
DRAFT_NAME = "draft"
"""The name under which an automation is previewed that has none yet."""
LISTED_EDITS = 20


@dataclass(frozen=True, slots=True)
class PreviewPanel:
    """What the panel beside the editor shows."""

    since: str
    preview: Preview | None = None
    faults: tuple[str, ...] = ()
    note: str = ""
    """What the preview leaves out."""

    @property
    def plots(self) -> list[ConditionPlot]:
        """What each condition saw of the run that logged last."""
        return [] if self.preview is None else [condition_plot(one) for one in self.preview.series]


@router.get("/new")
def new_page(request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The editor of a new automation; the query may say where it watches, for what, and what it calls."""
    draft = _draft_of(request.query_params)
    if (source := request.query_params.get("from")) is not None:
        with read_transaction(resources.engine) as connection:
            draft = {**automations.get(connection, visit.principal, visit.entity, source)}
        draft["name"] = ""
    return _editor_page(request, visit, resources, None, form_of(draft), Faults())


def _draft_of(given: Mapping[str, str]) -> dict[str, Any]:
    """The draft that a link describes: from a project, a webhook, an event, or the plot of a metric."""
    draft: dict[str, Any] = {
        "scope": {key: given[key] for key in ("project", "collection") if given.get(key)},
        "action": {"slack": given["slack"]} if given.get("slack") else {"webhook": given.get("webhook", "")},
        "event": given.get("event") or "ADD_ARTIFACT_ALIAS",
        "filter": {key: given[key] for key in ("alias", "tag") if given.get(key)},
        "states": [given["state"]] if given.get("state") else [],
    }
    if given.get("metric"):
        op = "$lt" if given.get("op") == "$lt" else "$gt"
        draft["conditions"] = [{"metric": given["metric"], "op": op, "threshold": _number_of(given.get("threshold"))}]
    return draft


def _number_of(text: str | None) -> float | str:
    """A number of a link; blank for what is none."""
    try:
        number = float(text or "")
    except ValueError:
        return ""
    return number if math.isfinite(number) else ""


@router.get("/{automation_id}/edit")
def edit_page(automation_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The editor of an automation that is there."""
    one = _automation(resources, visit, automation_id)
    return _editor_page(request, visit, resources, one, form_of(one, revision=one["revision"]), Faults())


@router.post("/preview")
def preview_part(request: Request, visit: EntityDep, resources: ResourcesDep, form: FormDep) -> Response:
    """The panel alone, for the editor that is being typed in."""
    return render(request, "preview.html", panel=_panel(resources, visit, form), **_words())


@router.post("/new")
def create(request: Request, visit: EntityDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Create the automation, or show the editor again with what was pressed."""
    return _submit(request, visit, resources, form, None)


@router.post("/{automation_id}/edit")
def change(automation_id: str, request: Request, visit: EntityDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Save the automation, or show the editor again with what was pressed."""
    return _submit(request, visit, resources, form, _automation(resources, visit, automation_id))


def _submit(
    request: Request, visit: EntityVisit, resources: ApiResources, form: Form, one: dict[str, Any] | None
) -> Response:
    if form.has("example"):
        return _editor_page(request, visit, resources, one, _filled(form), Faults())
    if form.has("show"):
        return _editor_page(request, visit, resources, one, form, Faults())
    try:
        definition = definition_of(form)

        def act(connection: Connection) -> str:
            path = f"{visit.frame.path}/automations"
            if one is None:
                saved = automations.create(connection, visit.principal, visit.entity, definition)
                return f"{path}/{saved['id']}?done=created"
            found = (connection, visit.principal, visit.entity, one["id"])
            refuse_if_changed(connection, form, "automation", lambda: int(automations.get(*found)["revision"]))
            automations.change(*found, definition)
            return f"{path}/{one['id']}?done=saved"

        return RedirectResponse(act_once(resources, visit.principal, form, act), 303)
    except ChangedMeanwhile:
        return _conflict_page(request, visit, resources, _automation(resources, visit, str((one or {})["id"])), form)
    except (InvalidDefinition, Conflict) as exc:
        return _editor_page(request, visit, resources, one, form, faults_at(exc.errors, FIELDS, str(exc)))


def _conflict_page(
    request: Request, visit: EntityVisit, resources: ApiResources, one: dict[str, Any], form: Form
) -> Response:
    """The editor with what was typed, and what others saved since it was opened; to save again overwrites theirs."""
    with read_transaction(resources.engine) as connection:
        kept = revisions.list_of(
            connection, visit.principal, visit.entity, IdKind.AUTOMATION, one["id"], PageRequest(LISTED_EDITS)
        )
    known = int(form.text("revision")) if form.text("revision").isdecimal() else 0
    theirs = [edit for edit in kept.items if edit.revision > known]
    again = Form({**form.fields, "revision": [str(one["revision"])]})
    return _editor_page(request, visit, resources, one, again, Faults(), theirs)


def _automation(resources: ApiResources, visit: EntityVisit, automation_id: str) -> dict[str, Any]:
    with read_transaction(resources.engine) as connection:
        return automations.get(connection, visit.principal, visit.entity, automation_id)


def _panel(resources: ApiResources, visit: EntityVisit, form: Form) -> PreviewPanel:
    """The preview of what the form says. An action that is not complete yet is left out of it."""
    since = form.text("since", "1h")
    since = since if since in SINCE else "1h"
    try:
        definition = definition_of(form)
    except InvalidDefinition as exc:
        return PreviewPanel(since, faults=tuple(map(str, exc.errors)))
    definition |= {"enabled": True, "name": definition["name"] or DRAFT_NAME}
    note = ""
    now, settings = datetime.now(UTC), resources.settings
    for tried in (definition, {**definition, "name": DRAFT_NAME, "action": {"no_op": True}}):
        try:
            with read_transaction(resources.engine) as connection:
                prepared = previews.prepare(
                    connection, visit.principal, visit.entity, tried, since, now=now, settings=settings
                )
        except InvalidDefinition as exc:
            others = [error for error in exc.errors if error.loc[:1] not in (("action",), ("name",))]
            if others:
                return PreviewPanel(since, faults=tuple(map(str, others)))
            note = f"No payload is shown: {exc.errors[0]}."
            continue
        try:
            with closing(open_redis(settings)) as redis:
                return PreviewPanel(since, previews.run(prepared, redis, settings.partitions), note=note)
        except (RedisError, OSError):
            break
    return PreviewPanel(since, faults=("The server with the event streams can't be reached.",))


def _words() -> dict[str, Any]:
    return {"since_choices": SINCE, "outcome_words": OUTCOMES, "reason_words": REASONS, "event_words": event_words}


def _editor_page(
    request: Request,
    visit: EntityVisit,
    resources: ApiResources,
    one: Mapping[str, Any] | None,
    form: Form,
    faults: Faults,
    theirs: Sequence[RevisionView] | None = None,
) -> Response:
    with read_transaction(resources.engine) as connection:
        choices = choices_of(connection, visit, form)
    return render(
        request,
        "automation_form.html",
        status=422 if faults.all else 200 if theirs is None else 409,
        automation=one,
        form=Form(_with_blank_rows(form.fields)),
        faults=faults,
        theirs=theirs,
        panel=_panel(resources, visit, form),
        events=EVENTS,
        operators=OPERATORS,
        modes=MODES,
        subject=subject_of(form.text("event")),
        kinds=KINDS,
        phases=list(RunPhase),
        choices=choices,
        filter_fields=COMMON_FIELDS,
        variables=variables_for(form.text("event"), choices.chosen),
        blank_variables=blank_variables(form.text("event")),
        content_types=_content_types(form.text("action.content_type")),
        templates=TEMPLATES.values(),
        filled_from=TEMPLATES.get(form.text("template")) if form.has("example") else None,
        **_words(),
    )


def _filled(form: Form) -> Form:
    """The form with the payload of the chosen service for the chosen event."""
    template, event = TEMPLATES.get(form.text("template")), form.text("event")
    if template is None or event not in set(EventType):
        return form
    action = template.action(words_of(EventType(event)))
    return Form(
        {
            **form.fields,
            "action.payload": [shown_json(action["payload"])],
            "action.payload_types": [action["payload_types"]],
            "action.content_type": [action.get("content_type", "")],
        }
    )


def _content_types(chosen: str) -> list[tuple[str, str]]:
    """The content types to choose from, with another one that the automation has already."""
    offered = [("", "JSON"), (FORM, "Form fields"), (PLAIN, "Plain text")]
    return offered if chosen in [name for name, _ in offered] else [*offered, (chosen, chosen)]


def _with_blank_rows(fields: dict[str, list[str]]) -> dict[str, list[str]]:
    """The fields with rows to fill in at the end of filter and conditions, and without those that were left blank."""
    result = dict(fields)
    for prefix, columns, blank in (
        ("filter", ("field", "op", "value"), ("", "$eq", "")),
        ("condition", COLUMNS, BLANK),
    ):
        named = columns.index("metric") if prefix == "condition" else 0
        length = len(fields.get(f"{prefix}.{columns[named]}", []))
        padded = [
            (fields.get(f"{prefix}.{column}", []) + [empty] * length)[:length]
            for column, empty in zip(columns, blank, strict=True)
        ]
        given = list(zip(*padded, strict=True))
        unnamed = [row for row in given if not row[named].strip()]  # its other fields may be filled in first
        rows = [row for row in given if row[named].strip()] + [*unnamed[-1:], blank][:1]
        for index, column in enumerate(columns):
            result[f"{prefix}.{column}"] = [row[index] for row in rows]
    return result
