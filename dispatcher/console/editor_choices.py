"""What the editor of automations offers to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from dispatcher.console.entities import EntityVisit
from dispatcher.console.forms import Form
from dispatcher.control import catalog
from dispatcher.control.paging import PageRequest
from dispatcher.control.webhook_resolver import NamedWebhook, find_named, list_names, list_owners
from shared.domain.events.types import EventType
from shared.domain.payloads.names import VARIABLES, described_variables
from shared.storage.definitions.webhook_fields import WebhookKind

MAX_PROPOSED = 200
"""Projects and collections that a field proposes; any other may be typed."""
MAX_TARGETS = 200
"""Of more webhooks one is chosen by typing its name, for which so many are proposed."""
COMMON_FIELDS = (
    "alias",
    "aliases",
    "artifact_type",
    "author",
    "collection",
    "display_name",
    "project",
    "tag",
    "tags",
    "version",
)
"""What the field of a filter's term proposes; any other may be typed."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a form offers."""

    teams: Sequence[str]
    """The entities whose webhooks may be called, the own one first."""
    team: str
    """The one whose webhooks are offered."""
    targets: Sequence[tuple[str, str]]
    """What an automation may call, as it names it, and in words: the team's first `MAX_TARGETS` by their names."""
    has_more: bool
    """Whether the team has more of them, so that any other is to be typed."""
    wanted: str
    """The chosen one, as an automation names it, or what was typed."""
    chosen: NamedWebhook | None
    projects: Sequence[str]
    collections: Sequence[str]


def choices_of(connection: Connection, visit: EntityVisit, form: Form) -> Choices:
    """The choices for what a form says now."""
    principal, entity = visit.principal, visit.entity
    teams = list_owners(connection, principal, entity)
    action = form.text("action", "webhook")
    kind = WebhookKind(action) if action in list(WebhookKind) else None
    wanted = form.text(f"action.{action}")
    given = form.text("team") if form.text("team") in teams else None
    chosen, names = None, list[tuple[str, str]]()
    if kind is not None and wanted:
        chosen = find_named(connection, principal, entity, wanted, kind, owner=given)
    team = chosen.owner if chosen else given or entity
    if kind is not None:
        names = list_names(connection, principal, team, kind, limit=MAX_TARGETS + 1)
    targets = [(name if team == entity else number, name) for number, name in names[:MAX_TARGETS]]
    if chosen is not None:
        own = (chosen.fields.name if team == entity else chosen.id, chosen.fields.name)
        wanted, targets = own[0], targets if own in targets else [*targets, own]
    few = PageRequest(MAX_PROPOSED)
    collections = catalog.list_collections(connection, principal, entity, None, few).items
    return Choices(
        teams=teams,
        team=team,
        targets=targets,
        has_more=len(names) > MAX_TARGETS,
        wanted=wanted if chosen or team == entity else "",
        chosen=chosen,
        projects=[project.name for project in catalog.list_projects(connection, principal, entity, few).items],
        collections=sorted({collection.name for collection in collections}),
    )


@dataclass(frozen=True, slots=True)
class PickedVariable:
    """A variable in the list beside the payload."""

    name: str
    words: str


def variables_for(event: str, chosen: NamedWebhook | None) -> list[PickedVariable]:
    """The variables that a payload may name: the webhook's secrets, and those that the event can have."""
    described = described_variables(EventType(event) if event in set(EventType) else None)
    words: dict[str, str] = {}
    if chosen is not None:
        words = {"ACCESS_TOKEN": "the webhook's access token"} if chosen.fields.access_token else {}
        words |= dict.fromkeys(chosen.fields.secrets, "a secret that the webhook grants")
    words |= {name: meaning for name, meaning in described.items() if name not in words}
    return [PickedVariable(name, meaning) for name, meaning in words.items()]


def blank_variables(event: str) -> list[str]:
    """The variables that a payload may name although events of this type have no value for them."""
    described = described_variables(EventType(event) if event in set(EventType) else None)
    return [name for name in VARIABLES if name not in described]
