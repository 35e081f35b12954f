"""What the editor of automations offers to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from dispatcher.api.resources import ApiResources
from dispatcher.console.entities import EntityVisit
from dispatcher.console.forms import Form
from dispatcher.control import catalog
from dispatcher.control.definition_lists import ListedSlackView, ListedWebhookView, list_slack, list_webhooks
from dispatcher.control.paging import MAX_LIMIT, PageRequest
from dispatcher.control.webhook_resolver import list_owners
from shared.domain.events.types import EventType
from shared.domain.payloads.names import VARIABLES, described_variables

MAX_PROPOSED = 200
"""Projects and collections that a field proposes; any other may be typed."""
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
    webhooks: Sequence[ListedWebhookView]
    slacks: Sequence[ListedSlackView]
    chosen: ListedWebhookView | None
    projects: Sequence[str]
    collections: Sequence[str]

    def value_of(self, one: ListedWebhookView | ListedSlackView, entity: str) -> str:
        """What an automation calls a webhook: by its name, or by its id where it is another team's."""
        return one.name if self.team == entity else one.id


def choices_of(connection: Connection, visit: EntityVisit, resources: ApiResources, form: Form) -> Choices:
    """The choices for what a form says now."""
    principal, entity = visit.principal, visit.entity
    teams = list_owners(connection, principal, entity)
    kind = form.text("action", "webhook")
    wanted = form.text(f"action.{kind}")
    team = form.text("team") if form.text("team") in teams else entity
    among = [team] if form.has("team") or not wanted.startswith(("wh_", "slk_")) else teams
    webhooks: Sequence[ListedWebhookView] = ()
    slacks: Sequence[ListedSlackView] = ()
    for one in among:
        if kind == "slack":
            slacks = list_slack(connection, principal, one, {"limit": MAX_LIMIT}).items
        elif kind == "webhook":
            webhooks = list_webhooks(connection, principal, one, {"limit": MAX_LIMIT}, vault=resources.vault).items
        known = {word for view in webhooks for word in (view.name, view.id)}
        known |= {word for view in slacks for word in (view.name, view.id)}
        if wanted in known:
            team = one
            break
    few = PageRequest(MAX_PROPOSED)
    collections = catalog.list_collections(connection, principal, entity, None, few).items
    return Choices(
        teams=teams,
        team=team,
        webhooks=webhooks,
        slacks=slacks,
        chosen=next((view for view in webhooks if wanted in (view.name, view.id)), None),
        projects=[project.name for project in catalog.list_projects(connection, principal, entity, few).items],
        collections=sorted({collection.name for collection in collections}),
    )


@dataclass(frozen=True, slots=True)
class PickedVariable:
    """A variable in the list beside the payload."""

    name: str
    words: str


def variables_for(event: str, chosen: ListedWebhookView | None) -> list[PickedVariable]:
    """The variables that a payload may name: the webhook's secrets, and those that the event can have."""
    described = described_variables(EventType(event) if event in set(EventType) else None)
    words: dict[str, str] = {}
    if chosen is not None:
        words = {"ACCESS_TOKEN": "the webhook's access token"} if chosen.access_token else {}
        words |= dict.fromkeys(chosen.secrets, "a secret that the webhook grants")
    words |= {name: meaning for name, meaning in described.items() if name not in words}
    return [PickedVariable(name, meaning) for name, meaning in words.items()]


def blank_variables(event: str) -> list[str]:
    """The variables that a payload may name although events of this type have no value for them."""
    described = described_variables(EventType(event) if event in set(EventType) else None)
    return [name for name in VARIABLES if name not in described]
