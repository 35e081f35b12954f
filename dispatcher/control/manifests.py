"""Manifests: projects, webhooks, Slack integrations, automations and sources of an entity, applied as a whole.

Nothing is deleted unless the manifest says `prune: true`, and then only of the kinds that it lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TypeVar

from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control import automations, slack, sources, webhooks
from dispatcher.control.access import Action, require
from dispatcher.control.audit import changed_members, record_change
from dispatcher.control.automations import AutomationEdit
from dispatcher.control.bodies import Body, View, parse_form
from dispatcher.control.faults import FaultCollector
from dispatcher.control.manifest_export import all_automations, all_webhooks
from dispatcher.control.manifest_projects import CatalogChange, check_projects, write_projects
from dispatcher.control.manifest_sources import check_sources, prune_sources, write_sources
from dispatcher.control.quotas import within_quotas
from dispatcher.control.webhook_checks import Checks, KnownSecrets, check_webhook
from dispatcher.control.webhook_resolver import ResolvedAutomation, WebhookResolver
from shared.domain.automations.model import Grants, NoOpAction
from shared.domain.errors import FieldError, InvalidDefinition, Loc
from shared.domain.ids import decode_id
from shared.storage.accounts.audit_log import NewChange, insert_changes
from shared.storage.accounts.users import Principal
from shared.storage.definitions import automations as automation_store
from shared.storage.definitions import webhooks as webhook_store
from shared.storage.definitions.automations import StoredAutomation
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.revisions import lock_edits
from shared.storage.definitions.sources import StoredSource
from shared.storage.definitions.webhook_fields import ID_KINDS, WebhookFields, WebhookKind, public_id
from shared.storage.definitions.webhooks import StoredWebhook

MAX_DEFINITIONS = 10_000


class ManifestBody(Body):
    """A manifest; its definitions are those of REST."""

    entity: str | None = Field(default=None, description="If given, it must be the entity of the path.")
    projects: list[Any] = Field(
        default=[],
        max_length=MAX_DEFINITIONS,
        description="Projects and registries, with their collections; those that are missing are registered.",
    )
    webhooks: list[Any] = Field(default=[], max_length=MAX_DEFINITIONS)
    slack: list[Any] = Field(default=[], max_length=MAX_DEFINITIONS)
    automations: list[Any] = Field(default=[], max_length=MAX_DEFINITIONS)
    sources: list[Any] = Field(default=[], max_length=MAX_DEFINITIONS)
    prune: bool = Field(
        default=False, description="Whether to delete definitions that are not listed, of the kinds that are listed."
    )


Kind = Literal["webhook", "slack", "automation", "source", "project", "collection"]
Members = dict[str, Any]
Done = Literal["created", "updated", "unchanged", "deleted"]
_S = TypeVar("_S", StoredWebhook, StoredAutomation, StoredSource)
_AuditRow = Callable[[Principal, StoredEntity, str, _S, Sequence[str]], NewChange]
"""Makes the audit log's row of a change: `webhooks.webhook_change`, `automations.automation_change` and so on."""


class Change(View):
    """The change of one definition by a manifest."""

    kind: Kind
    name: str
    change: Done
    detail: list[str] = Field(default=[])
    """The members that an update changed."""
    before: dict[str, Any] | None = Field(default=None, description="What these members were; null unless it updates.")
    after: dict[str, Any] | None = Field(default=None, description="What they are now.")


def apply(
    connection: Connection, principal: Principal, entity_name: str, raw: object, *, checks: Checks, dry_run: bool
) -> list[Change]:
    """Apply a manifest to an entity, all of it or nothing.

    Raises:
        InvalidDefinition: naming all faults, e.g. at `("automations", 3, "filter", "alias")`.
        Conflict: when a webhook or Slack integration to be deleted is in use.
        QuotaExceeded: when the entity would have more than it may have.
    """
    body = parse_form(ManifestBody, raw)
    action = Action.ADMINISTER if {"webhooks", "slack", "sources"} & body.model_fields_set else Action.AUTOMATE
    entity = require(connection, principal, entity_name, action)
    if body.entity not in (None, entity.name):
        raise InvalidDefinition.at(("entity",), f"must be {entity.name!r}, the entity that the manifest is applied to")
    lock_edits(connection)
    savepoint = connection.begin_nested()
    with within_quotas(connection, entity):
        changes = _apply(_Target(connection, principal, entity), body, checks)
    if dry_run:
        savepoint.rollback()
    else:
        savepoint.commit()
        _record_counts(connection, principal, entity, changes)
    return changes


def _record_counts(connection: Connection, principal: Principal, entity: StoredEntity, changes: list[Change]) -> None:
    counts = Counter(change.change for change in changes if change.change != "unchanged")
    if counts:
        name = entity.name
        record_change(
            connection, principal, "manifest.apply", entity=entity, target_id=name, name=name, changes=dict(counts)
        )


@dataclass(frozen=True, slots=True)
class _Target:
    """The entity that a manifest is applied to, by whom, and in which transaction."""

    connection: Connection
    principal: Principal
    entity: StoredEntity


def _apply(target: _Target, body: ManifestBody, checks: Checks) -> list[Change]:
    """Check and write everything, and raise with all faults at the end: the caller rolls back then.

    Webhooks come first, since automations name them. What is no longer listed is deleted last, when nothing uses it.
    """
    connection = target.connection
    log, collector = _ChangeLog(target), FaultCollector()
    if projects := check_projects(connection, target.entity, body.projects, collector):
        log.registered(write_projects(connection, target.entity, projects, datetime.now(UTC)))
    endpoints = _Endpoints(target, checks, collector)
    endpoints.read_stored(_names(body.webhooks) | _names(body.slack))
    for loc, raw in _once_each("webhooks", body.webhooks, collector):
        endpoints.add_webhook(loc, raw)
    for loc, raw in _once_each("slack", body.slack, collector):
        endpoints.add_slack(loc, raw)
    written = endpoints.write(log)
    wanted = check_sources(
        connection,
        target.entity,
        list(_once_each("sources", body.sources, collector)),
        checks=checks,
        collector=collector,
    )
    for source, before in write_sources(connection, target.entity, wanted):
        log.wrote("source", source, before, sources.source_body(source), sources.source_change)
    _write_automations(target, body.automations, endpoints, collector, log)
    if body.prune and "automations" in body.model_fields_set:
        _prune_automations(target, _names(body.automations), log)
    users = automation_store.automations_of_webhooks(connection, [webhook.id for _, webhook in written])
    for loc, webhook in written:
        collector.run(partial(webhooks.check_users, webhook, users[webhook.id]), loc=loc)
    if collector.faults:
        raise InvalidDefinition(*collector.faults)
    if body.prune and "webhooks" in body.model_fields_set:
        _prune_webhooks(target, "webhook", _names(body.webhooks), log)
    if body.prune and "slack" in body.model_fields_set:
        _prune_webhooks(target, "slack", _names(body.slack), log)
    if body.prune and "sources" in body.model_fields_set:
        for gone in prune_sources(connection, target.entity, _names(body.sources)):
            log.deleted("source", gone, sources.source_change)
    insert_changes(connection, log.audit_rows)
    return log.changes


class _ChangeLog:
    """The changes so far: as they are answered, and as rows of the audit log, one for each as if it was made alone."""

    def __init__(self, target: _Target) -> None:
        self._target = target
        self.changes: list[Change] = []
        self.audit_rows: list[NewChange] = []

    def wrote(self, kind: Kind, stored: _S, before: Members | None, after: Members, audit: _AuditRow[_S]) -> None:
        """A definition is stored now; `before` is None for a new one."""
        detail = [] if before is None else changed_members(before, after)
        done: Done = "created" if before is None else "updated" if detail else "unchanged"
        self.changes.append(
            Change(kind=kind, name=stored.name, change=done, detail=detail, **_values(before, after, detail))
        )
        if done != "unchanged":
            self._record(done, stored, audit, detail)

    def registered(self, changes: Sequence[CatalogChange]) -> None:
        """Projects and collections are registered now; the audit log counts them with the manifest."""
        for one in changes:
            values: dict[str, Any] = {}
            if one.member is not None:
                values = {"detail": [one.member], "before": {one.member: one.before}, "after": {one.member: one.after}}
            self.changes.append(Change(kind=one.kind, name=one.name, change=one.change, **values))

    def deleted(self, kind: Kind, stored: _S, audit: _AuditRow[_S]) -> None:
        """A definition is deleted now."""
        self.changes.append(Change(kind=kind, name=stored.name, change="deleted"))
        self._record("deleted", stored, audit, ())

    def _record(self, done: Done, stored: _S, audit: _AuditRow[_S], changed: Sequence[str]) -> None:
        did = done.removesuffix("d")
        self.audit_rows.append(audit(self._target.principal, self._target.entity, did, stored, changed))


def _values(before: Members | None, after: Members, changed: Sequence[str]) -> dict[str, dict[str, Any]]:
    if before is None or not changed:
        return {}
    return {
        "before": {member: before.get(member) for member in changed},
        "after": {member: after.get(member) for member in changed},
    }


class _Endpoints:
    """The webhooks and Slack integrations of a manifest, checked one by one and written together."""

    def __init__(self, target: _Target, checks: Checks, collector: FaultCollector) -> None:
        self._target = target
        self._checks = checks
        self._collector = collector
        self._secrets = KnownSecrets(target.connection, target.entity, checks)
        self._stored: dict[str, StoredWebhook] = {}
        self._kinds: dict[str, WebhookKind] = {}
        """The kind that has each name, in the entity or so far in the manifest."""
        self._edits: list[tuple[Loc, WebhookFields]] = []
        self.refused: dict[str, Grants] = {}
        """The grants of refused webhooks, so that the automations that name them are still checked."""
        self.refused_slack: set[str] = set()

    def read_stored(self, names: frozenset[str]) -> None:
        """Read the entity's webhooks and Slack integrations with these names."""
        target = self._target
        found = webhook_store.many_webhooks(target.connection, target.entity.id, names=_storable(names))
        self._stored = {one.name: one for one in found}
        self._kinds = {name: one.fields.kind for name, one in self._stored.items()}

    def add_webhook(self, loc: Loc, raw: object) -> None:
        """Check a webhook's definition; it is written later."""
        if not self._add(loc, raw, check_webhook) and (name := _name(raw)) is not None:
            self.refused[name] = _meant_grants(raw)

    def add_slack(self, loc: Loc, raw: object) -> None:
        """Check a Slack integration's definition; it is written later."""
        if not self._add(loc, raw, slack.check_slack):
            self.refused_slack.update(_names([raw]))

    def _add(self, loc: Loc, raw: object, check: Callable[..., WebhookFields]) -> bool:
        fields = self._collector.run(lambda: self._check(raw, check), loc=loc)
        if fields is not None:
            self._edits.append((loc, fields))
        return fields is not None

    def _check(self, raw: object, check: Callable[..., WebhookFields]) -> WebhookFields:
        target = self._target
        stored = self._stored.get(_name(raw) or "")
        before = None if stored is None else stored.fields
        fields = check(target.connection, target.entity, raw, checks=self._checks, known=self._secrets, before=before)
        holder = self._kinds.setdefault(fields.name, fields.kind)
        if holder is not fields.kind:
            raise webhooks.name_conflict(target.entity, holder, fields.name)
        return fields

    def write(self, log: _ChangeLog) -> list[tuple[Loc, StoredWebhook]]:
        """Write the definitions that were not refused; returns each with the place of its definition."""
        edits = [(self._stored.get(fields.name), fields) for _, fields in self._edits]
        target = self._target
        all_written = webhooks.save_webhooks(target.connection, target.entity, edits, by=target.principal.user_name)
        for (before, fields), written in zip(edits, all_written, strict=True):
            kind, body_of = _FORMS[fields.kind]
            was = None if before is None else body_of(before)
            log.wrote(kind, written, was, body_of(written), webhooks.webhook_change)
        return [(loc, written) for (loc, _), written in zip(self._edits, all_written, strict=True)]


def _write_automations(
    target: _Target,
    definitions: Sequence[object],
    endpoints: _Endpoints,
    collector: FaultCollector,
    log: _ChangeLog,
) -> None:
    """Check the automations, and write those that were not refused."""
    connection, entity = target.connection, target.entity
    stored = {
        one.name: one
        for one in automation_store.many_automations(connection, entity.id, names=_storable(_names(definitions)))
    }
    resolver = WebhookResolver(
        connection,
        entity,
        target.principal,
        planned=endpoints.refused,
        planned_slack=endpoints.refused_slack,
        known=_named_webhooks(target, definitions),
    )
    edits: list[AutomationEdit] = []
    for loc, raw in _once_each("automations", definitions, collector):
        definition = collector.run(partial(_parse, resolver, stored, raw), loc=loc)
        if definition is None:
            continue
        if definition.webhook is None and not isinstance(definition.automation.action, NoOpAction):
            continue  # its webhook was refused, and with it the manifest
        edits.append(AutomationEdit(stored.get(definition.automation.name), definition))
    saved = automations.save_automations(connection, entity, edits, by=target.principal.user_name)
    for edit, written in zip(edits, saved, strict=True):
        before = None if edit.stored is None else edit.stored.definition
        log.wrote("automation", written, before, written.definition, automations.automation_change)


def _parse(resolver: WebhookResolver, stored: Mapping[str, StoredAutomation], raw: object) -> ResolvedAutomation:
    before = stored.get(_name(raw) or "")
    definition = resolver.parse(raw, was=None if before is None else before.definition)
    automations.check_new_name(before, definition)
    return definition


def _named_webhooks(
    target: _Target, definitions: Sequence[object]
) -> dict[tuple[WebhookKind, str], StoredWebhook | None]:
    """The entity's webhooks that the automations name, read in one query, by all that they may be called."""
    named = _storable({called for raw in definitions for called in _webhook_names(raw)})
    ids = {number for one in named for kind in ID_KINDS.values() if (number := decode_id(kind, one)) is not None}
    return {
        (webhook.fields.kind, called): webhook
        for webhook in webhook_store.many_webhooks(target.connection, target.entity.id, ids=ids, names=named)
        for called in (webhook.name, public_id(webhook.fields.kind, webhook.id))
    }


def _prune_automations(target: _Target, kept: frozenset[str], log: _ChangeLog) -> None:
    for stored in list(all_automations(target.connection, target.entity)):
        if stored.name not in kept:
            automations.remove_automation(target.connection, stored, by=target.principal.user_name)
            log.deleted("automation", stored, automations.automation_change)


def _prune_webhooks(target: _Target, kind: Literal["webhook", "slack"], kept: frozenset[str], log: _ChangeLog) -> None:
    for stored in list(all_webhooks(target.connection, target.entity, WebhookKind(kind))):
        if stored.name not in kept:
            webhooks.remove_webhook(target.connection, stored, by=target.principal.user_name)
            log.deleted(kind, stored, webhooks.webhook_change)


def _once_each(kind: str, definitions: Sequence[object], collector: FaultCollector) -> Iterator[tuple[Loc, object]]:
    """The definitions with their places in the manifest; one whose name came before is a fault and left out."""
    seen: set[str] = set()
    for index, raw in enumerate(definitions):
        name = _name(raw)
        if name is not None and name in seen:
            collector.faults.append(FieldError((kind, index, "name"), f"{name!r} comes twice"))
            continue
        if name is not None:
            seen.add(name)
        yield (kind, index), raw


def _name(raw: object) -> str | None:
    name = raw.get("name") if isinstance(raw, Mapping) else None
    return name if isinstance(name, str) else None


def _names(definitions: Sequence[object]) -> frozenset[str]:
    return frozenset(name for raw in definitions if (name := _name(raw)) is not None)


def _storable(names: Collection[str]) -> set[str]:
    """The names that a database can be asked for: without NUL and lone surrogates."""
    return {name for name in names if "\0" not in name and name == name.encode(errors="ignore").decode()}


def _webhook_names(raw: object) -> Iterator[str]:
    """The webhook or Slack integration that a definition's action names, if the definition has the form of one."""
    action = raw.get("action") if isinstance(raw, Mapping) else None
    if isinstance(action, Mapping):
        yield from (called for kind in WebhookKind if isinstance(called := action.get(kind), str))


def _meant_grants(raw: object) -> Grants:
    members = raw if isinstance(raw, Mapping) else {}
    secrets = members.get("secrets")
    names = secrets if isinstance(secrets, list) else []
    return Grants(frozenset(name for name in names if isinstance(name, str)), members.get("access_token") is not None)


_FORMS: Mapping[WebhookKind, tuple[Kind, Callable[[StoredWebhook], dict[str, Any]]]] = {
    WebhookKind.WEBHOOK: ("webhook", webhooks.webhook_body),
    WebhookKind.SLACK: ("slack", slack.slack_body),
}
