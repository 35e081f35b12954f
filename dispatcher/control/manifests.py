"""Manifests: webhooks, Slack integrations and automations of an entity, applied as a whole, exported in the same form.

Nothing is deleted unless the manifest says `prune: true`, and then only of the kinds that it lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control import automations, slack, webhooks
from dispatcher.control.access import Action, require
from dispatcher.control.audit import changed_members, record_change
from dispatcher.control.automations import AutomationEdit
from dispatcher.control.bodies import Body, View, parse_form
from dispatcher.control.errors import Conflict
from dispatcher.control.slack import SlackBody
from dispatcher.control.webhook_checks import Checks, KnownSecrets, WebhookBody, check_webhook
from dispatcher.control.webhook_resolver import WebhookResolver
from shared.domain.automations.model import Grants, NoOpAction, cooldown_to_json
from shared.domain.automations.parsing import default_cooldown
from shared.domain.errors import FieldError, InvalidDefinition, Loc
from shared.domain.events.types import EventType
from shared.domain.filters.filters import parse_filter
from shared.domain.ids import decode_id
from shared.storage.accounts.audit_log import NewChange, insert_changes
from shared.storage.accounts.users import Principal
from shared.storage.definitions import automations as automation_store
from shared.storage.definitions import webhooks as webhook_store
from shared.storage.definitions.automations import StoredAutomation
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.revisions import lock_edits
from shared.storage.definitions.webhooks import ID_KINDS, StoredWebhook, WebhookFields, WebhookKind, public_id

MAX_DEFINITIONS = 10_000
_PAGE = 500

_Row = TypeVar("_Row")


class ManifestBody(Body):
    """What a manifest holds; definitions are as in REST."""

    entity: str | None = Field(default=None, description="The entity's name, if given, must be the path's.")
    webhooks: list[Any] = Field(default=[], max_length=MAX_DEFINITIONS)
    slack: list[Any] = Field(default=[], max_length=MAX_DEFINITIONS)
    automations: list[Any] = Field(default=[], max_length=MAX_DEFINITIONS)
    prune: bool = Field(default=False, description="Whether what is not listed is deleted, of the kinds listed.")


Kind = Literal["webhook", "slack", "automation"]
Done = Literal["created", "updated", "unchanged", "deleted"]


class Change(View):
    """What applying a manifest did, or would do, to one definition."""

    kind: Kind
    name: str
    change: Done
    detail: list[str] = Field(default=[])
    """The members that an update changed."""


def apply(
    connection: Connection, principal: Principal, entity_name: str, raw: object, *, checks: Checks, dry_run: bool
) -> list[Change]:
    """Bring the entity's definitions to what the manifest says, all of it or nothing.

    Raises:
        InvalidDefinition: naming all faults, e.g. at `("automations", 3, "filter", "alias")`.
        Conflict: when a webhook or Slack integration to be deleted is in use.
    """
    body = parse_form(ManifestBody, raw)
    action = Action.ADMINISTER if {"webhooks", "slack"} & body.model_fields_set else Action.AUTOMATE
    entity = require(connection, principal, entity_name, action)
    if body.entity not in (None, entity.name):
        raise InvalidDefinition.at(("entity",), f"must be {entity.name!r}, the entity that the manifest is applied to")
    lock_edits(connection)
    savepoint = connection.begin_nested()
    changes = _Application(connection, principal, entity, checks).run(body)
    if dry_run:
        savepoint.rollback()
    else:
        savepoint.commit()
        _note_applied(connection, principal, entity, changes)
    return changes


def _note_applied(connection: Connection, principal: Principal, entity: StoredEntity, changes: list[Change]) -> None:
    counts = Counter(change.change for change in changes if change.change != "unchanged")
    if counts:
        name = entity.name
        record_change(
            connection, principal, "manifest.apply", entity=entity, target_id=name, name=name, changes=dict(counts)
        )


class _Application:
    """One manifest being applied: what was changed so far, and the faults found so far."""

    def __init__(self, connection: Connection, principal: Principal, entity: StoredEntity, checks: Checks) -> None:
        self._connection = connection
        self._principal = principal
        self._entity = entity
        self._checks = checks
        self._changes: list[Change] = []
        self._noted: list[NewChange] = []
        self._faults: list[FieldError] = []
        self._secrets = KnownSecrets(connection, entity, checks)
        # What the entity has of the manifest's names, and what the manifest has put there so far.
        self._webhooks: dict[str, StoredWebhook] = {}
        self._kinds: dict[str, WebhookKind] = {}
        self._automations: dict[str, StoredAutomation] = {}
        self._webhook_edits: list[tuple[Loc, StoredWebhook | None, WebhookFields]] = []
        self._automation_edits: list[AutomationEdit] = []
        # Webhooks of the manifest that were refused, with what they were to grant: their automations are still checked.
        self._refused: dict[str, Grants] = {}
        self._refused_slack: set[str] = set()
        refused, refused_slack = self._refused, self._refused_slack
        self._finder = WebhookResolver(connection, entity, principal, planned=refused, planned_slack=refused_slack)

    def run(self, body: ManifestBody) -> list[Change]:
        named = _storable(_names(body.webhooks) | _names(body.slack))
        self._webhooks = {one.name: one for one in webhook_store.many_webhooks(*self._of_entity, names=named)}
        self._kinds = {name: one.fields.kind for name, one in self._webhooks.items()}
        self._each("webhooks", body.webhooks, self._webhook)
        self._each("slack", body.slack, self._slack)
        written = self._write_webhooks()
        self._read_ahead(body.automations)
        self._each("automations", body.automations, self._automation)
        self._write_automations()
        if body.prune and "automations" in body.model_fields_set:
            self._prune_automations(_names(body.automations))
        users = automation_store.automations_of_webhooks(self._connection, [webhook.id for _, webhook in written])
        for loc, webhook in written:
            self._collect(loc, partial(webhooks.check_users, webhook, users[webhook.id]))
        if self._faults:
            raise InvalidDefinition(*self._faults)
        if body.prune and "webhooks" in body.model_fields_set:
            self._prune_webhooks("webhook", _names(body.webhooks))
        if body.prune and "slack" in body.model_fields_set:
            self._prune_webhooks("slack", _names(body.slack))
        insert_changes(self._connection, self._noted)
        return self._changes

    @property
    def _of_entity(self) -> tuple[Connection, int]:
        return self._connection, self._entity.id

    def _each(self, kind: str, definitions: Sequence[object], take: Callable[[Loc, object], None]) -> None:
        seen: set[str] = set()
        for index, raw in enumerate(definitions):
            name = _name(raw)
            if name is not None and name in seen:
                self._faults.append(FieldError((kind, index, "name"), f"{name!r} comes twice"))
                continue
            seen.add(name or "")
            self._collect((kind, index), partial(take, (kind, index), raw))

    def _collect(self, loc: Loc, step: Callable[[], object]) -> bool:
        """Take a step, its refusal kept as faults at `loc`; whether it went through."""
        try:
            step()
        except InvalidDefinition as exc:
            self._faults += exc.under(*loc).errors
        except Conflict as exc:
            self._faults += [error.under(*loc) for error in exc.errors] or [FieldError(loc, str(exc))]
        else:
            return True
        return False

    def _webhook(self, loc: Loc, raw: object) -> None:
        if not self._collect(loc, partial(self._write_webhook, loc, raw)) and (name := _name(raw)) is not None:
            self._refused[name] = _meant_grants(raw)

    def _slack(self, loc: Loc, raw: object) -> None:
        if not self._collect(loc, partial(self._write_slack, loc, raw)):
            self._refused_slack.update(_names([raw]))

    def _write_webhook(self, loc: Loc, raw: object) -> None:
        self._plan(loc, check_webhook(self._connection, self._entity, raw, checks=self._checks, known=self._secrets))

    def _write_slack(self, loc: Loc, raw: object) -> None:
        self._plan(
            loc, slack.check_slack(self._connection, self._entity, raw, checks=self._checks, known=self._secrets)
        )

    def _plan(self, loc: Loc, fields: WebhookFields) -> None:
        holder = self._kinds.setdefault(fields.name, fields.kind)
        if holder is not fields.kind:
            raise webhooks.name_conflict(self._entity, holder, fields.name)
        self._webhook_edits.append((loc, self._webhooks.get(fields.name), fields))

    def _write_webhooks(self) -> list[tuple[Loc, StoredWebhook]]:
        edits = [(stored, fields) for _, stored, fields in self._webhook_edits]
        all_written = webhooks.save_webhooks(self._connection, self._entity, edits)
        for (_, stored, fields), written in zip(self._webhook_edits, all_written, strict=True):
            kind, body_of = _FORMS[fields.kind]
            change = self._note(kind, fields.name, None if stored is None else body_of(stored), body_of(written))
            self._audit(webhooks.webhook_change, written, change)
        return [(loc, written) for (loc, _, _), written in zip(self._webhook_edits, all_written, strict=True)]

    def _read_ahead(self, definitions: Sequence[object]) -> None:
        """Read what of the entity's the automations are or name, all of it at once."""
        stored = automation_store.many_automations(*self._of_entity, names=_storable(_names(definitions)))
        self._automations = {one.name: one for one in stored}
        named = _storable({called for raw in definitions for called in _named_webhooks(raw)})
        ids = {number for one in named for kind in ID_KINDS.values() if (number := decode_id(kind, one)) is not None}
        for webhook in webhook_store.many_webhooks(*self._of_entity, ids=ids, names=named):
            kind = webhook.fields.kind
            for called in (webhook.name, public_id(kind, webhook.id)):
                self._finder.known[kind, called] = webhook

    def _automation(self, _loc: Loc, raw: object) -> None:
        finder = self._finder
        finder.found = None
        automation = finder.automation(raw)
        if not isinstance(automation.action, NoOpAction) and finder.found is None:
            return  # its webhook was refused, and with it the manifest
        stored = self._automations.get(automation.name)
        self._automation_edits.append(AutomationEdit(stored, automation, finder.found))

    def _write_automations(self) -> None:
        all_written = automations.save_automations(self._connection, self._entity, self._automation_edits)
        for edit, written in zip(self._automation_edits, all_written, strict=True):
            before = None if edit.stored is None else edit.stored.definition
            change = self._note("automation", written.name, before, written.definition)
            self._audit(automations.automation_change, written, change)

    def _note(self, kind: Kind, name: str, before: dict[str, Any] | None, after: dict[str, Any]) -> Change:
        detail = [] if before is None else changed_members(before, after)
        done: Done = "created" if before is None else "updated" if detail else "unchanged"
        change = Change(kind=kind, name=name, change=done, detail=detail)
        self._changes.append(change)
        return change

    def _audit(self, noting_change: Callable[..., NewChange], stored: object, change: Change) -> None:
        """Have a change written down as if it had been made alone."""
        if change.change != "unchanged":
            did, detail = change.change.removesuffix("d"), {"changed": change.detail} if change.detail else {}
            self._noted.append(noting_change(self._principal, self._entity, did, stored, **detail))

    def _prune_automations(self, kept: frozenset[str]) -> None:
        for stored in list(all_automations(self._connection, self._entity)):
            if stored.name not in kept:
                automations.remove_automation(self._connection, stored)
                self._deleted("automation", stored.name, automations.automation_change, stored)

    def _prune_webhooks(self, kind: Literal["webhook", "slack"], kept: frozenset[str]) -> None:
        for stored in list(all_webhooks(self._connection, self._entity, WebhookKind(kind))):
            if stored.name not in kept:
                webhooks.remove_webhook(self._connection, stored)
                self._deleted(kind, stored.name, webhooks.webhook_change, stored)

    def _deleted(self, kind: Kind, name: str, noting_change: Callable[..., NewChange], stored: object) -> None:
        change = Change(kind=kind, name=name, change="deleted")
        self._changes.append(change)
        self._audit(noting_change, stored, change)


def export(connection: Connection, principal: Principal, entity_name: str) -> dict[str, list[dict[str, Any]]]:
    """The entity's definitions as a manifest without what is the default anyway; `slack` only if there are some."""
    entity = require(connection, principal, entity_name, Action.READ)
    own_slack = [_brief_slack(stored) for stored in all_webhooks(connection, entity, WebhookKind.SLACK)]
    return {
        "webhooks": [_brief_webhook(stored) for stored in all_webhooks(connection, entity)],
        **({"slack": own_slack} if own_slack else {}),
        "automations": [
            _brief_automation(automations.shown_definition(stored)) for stored in all_automations(connection, entity)
        ],
    }


def all_webhooks(
    connection: Connection, entity: StoredEntity, kind: WebhookKind = WebhookKind.WEBHOOK
) -> Iterator[StoredWebhook]:
    """Every webhook of an entity that is of this kind."""
    return _all(
        lambda after: webhook_store.list_webhooks(connection, entity.id, after=after, limit=_PAGE, kind=kind),
        lambda row: row.id,
    )


def all_automations(connection: Connection, entity: StoredEntity) -> Iterator[automation_store.StoredAutomation]:
    """Every automation of an entity."""
    return _all(
        lambda after: automation_store.list_automations(connection, entity.id, after=after, limit=_PAGE),
        lambda row: row.id,
    )


def _all(page: Callable[[int], list[_Row]], position: Callable[[_Row], int]) -> Iterator[_Row]:
    rows = page(0)
    while rows:
        yield from rows
        rows = page(position(rows[-1])) if len(rows) == _PAGE else []


def _name(raw: object) -> str | None:
    name = raw.get("name") if isinstance(raw, Mapping) else None
    return name if isinstance(name, str) else None


def _names(definitions: Sequence[object]) -> frozenset[str]:
    return frozenset(name for raw in definitions if (name := _name(raw)) is not None)


def _storable(names: Collection[str]) -> set[str]:
    """Those that a database can be asked for: no text column holds a NUL or half a character."""
    return {name for name in names if "\0" not in name and name == name.encode(errors="ignore").decode()}


def _named_webhooks(raw: object) -> Iterator[str]:
    """What a definition's action calls, if it has the form of one."""
    action = raw.get("action") if isinstance(raw, Mapping) else None
    if isinstance(action, Mapping):
        yield from (called for kind in WebhookKind if isinstance(called := action.get(kind), str))


def _meant_grants(raw: object) -> Grants:
    members = raw if isinstance(raw, Mapping) else {}
    secrets = members.get("secrets")
    names = secrets if isinstance(secrets, list) else []
    return Grants(frozenset(name for name in names if isinstance(name, str)), members.get("access_token") is not None)


def _brief_webhook(stored: StoredWebhook) -> dict[str, Any]:
    body = WebhookBody.model_validate(webhooks.webhook_body(stored))
    return body.model_dump(mode="json", exclude_defaults=True)


def _brief_slack(stored: StoredWebhook) -> dict[str, Any]:
    return SlackBody.model_validate(slack.slack_body(stored)).model_dump(mode="json", exclude_defaults=True)


def _brief_automation(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition without members that mean the same when they are left out."""
    return {key: value for key, value in definition.items() if not _is_default(key, value, definition["event"])}


def _is_default(member: str, value: object, event: str) -> bool:
    if member == "filter":
        return parse_filter(value, lambda _field: None).matches_everything
    if member == "cooldown":
        return value == cooldown_to_json(default_cooldown(EventType(event)))
    return member in _DEFAULTS and _DEFAULTS[member] == value


_FORMS: Mapping[WebhookKind, tuple[Kind, Callable[[StoredWebhook], dict[str, Any]]]] = {
    WebhookKind.WEBHOOK: ("webhook", webhooks.webhook_body),
    WebhookKind.SLACK: ("slack", slack.slack_body),
}
_DEFAULTS: Mapping[str, object] = {"description": None, "enabled": True, "scope": {}, "rate_limit": None}
