"""What would become of a request to a source: its events, or why there are none. Nothing is published or stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control.access import Action, require
from dispatcher.control.bodies import Body, View, parse_body
from dispatcher.control.source_checks import SourceBody, definition_of
from dispatcher.control.sources import load_source
from shared.domain.errors import HooklineError, InvalidDefinition
from shared.domain.ids import IdKind, encode_id
from shared.domain.json_text import quote_bare_numbers, read_json, write_json
from shared.domain.sources.model import InboundRequest, Source, SourceKind
from shared.domain.sources.parsing import source_of
from shared.domain.sources.reading import json_of, publishable, read_request
from shared.storage.accounts.users import Principal

MAX_HEADERS = 50
DRAFT_ID = "unsaved"
"""What stands for the id of a source that has none yet, in the `source` of the events that it would make."""


class SourceTrialBody(Body):
    """A request to try; how it proves itself is not checked."""

    headers: Annotated[
        dict[str, str],
        Field(default_factory=dict, max_length=MAX_HEADERS, description="Its headers, such as `X-GitHub-Event`."),
    ]
    body: Annotated[str, Field(description="Its body, as text.")]


class Fault(View):
    """A fault of an event that would be made."""

    loc: list[str | int]
    msg: str


class SourceTrialView(View):
    """What would become of a request."""

    events: list[dict[str, Any]]
    """The events that would be published; none where they nest too deeply to be shown."""
    ignored: list[str]
    """Why it, or parts of it, would be no events."""
    faults: list[Fault]
    """Why nothing would be published, though rules or the kind of source make events of it."""
    answer: dict[str, Any] | None
    """What the sender would be told instead: the answer to a handshake."""


def try_request(
    connection: Connection, principal: Principal, entity_name: str, source_id: str, raw: object
) -> SourceTrialView:
    """Read a request as the source would.

    Raises:
        NotFound: there is no such source.
        InvalidDefinition: for a body of the trial itself that is none.
    """
    entity = require(connection, principal, entity_name, Action.READ)
    stored = load_source(connection, entity, source_id)
    source = source_of(stored.name, SourceKind(stored.kind), entity.name, stored.definition)
    return _try(source, encode_id(IdKind.SOURCE, stored.id), _request_of(raw))


def try_draft(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    definition: object,
    raw: object,
    *,
    source_id: str = DRAFT_ID,
) -> SourceTrialView:
    """Read a request as a source would that is not saved; that its secrets are there is not checked.

    Args:
        definition: a source's, as it is created.
        raw: the trial, as `try_request` takes it.
        source_id: of the source that the definition would change.

    Raises:
        InvalidDefinition: for a fault of the definition, or of the trial itself.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    checked = parse_body(SourceBody, definition)
    source = source_of(checked.name, checked.kind, entity.name, definition_of(checked))
    return _try(source, source_id, _request_of(raw))


def _request_of(raw: object) -> InboundRequest:
    body = parse_body(SourceTrialBody, raw)
    headers = {name.lower(): value for name, value in body.headers.items()}
    return InboundRequest(headers, {}, body.body.encode("utf-8", "surrogatepass"))


def _try(source: Source, source_id: str, request: InboundRequest) -> SourceTrialView:
    try:
        outcome = read_request(source, source_id, request, read_json(quote_bare_numbers(json_of(request))))
        faults: list[Fault] = []
        try:
            publishable(outcome.events)
        except InvalidDefinition as exc:
            faults = [Fault(loc=list(error.loc), msg=error.msg) for error in exc.errors]
    except orjson.JSONDecodeError as exc:
        return _failed(f"is not JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}")
    except HooklineError as exc:
        return _failed(str(exc))
    return SourceTrialView(
        events=_shown(outcome.events), ignored=list(outcome.ignored), faults=faults, answer=outcome.answer
    )


def _shown(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events, or none where they nest too deeply to be answered, which is among the faults then."""
    try:
        write_json([events])
    except TypeError:
        return []
    return list(events)


def _failed(why: str) -> SourceTrialView:
    return SourceTrialView(events=[], ignored=[], faults=[Fault(loc=[], msg=why)], answer=None)
