"""Revisions of automations, webhooks and Slack integrations: what they were, who changed them, and restoring one.

Restoring is an edit like any other: the old definition is checked as a new one is, and gets a revision of its own.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from dispatcher.control import automations, slack, webhooks
from dispatcher.control.access import Action, require
from dispatcher.control.bodies import View
from dispatcher.control.errors import NotFound
from dispatcher.control.paging import Page, PageRequest
from dispatcher.control.webhook_checks import Checks, check_webhook
from dispatcher.control.webhook_resolver import WebhookResolver
from shared.domain.ids import IdKind, decode_id
from shared.storage.accounts.users import Principal
from shared.storage.database.clock import database_time
from shared.storage.definitions import automations as automation_store
from shared.storage.definitions import webhooks as webhook_store
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.kept_revisions import (
    BESIDE_DEFINITION,
    KeptRevision,
    RevisionChange,
    RevisionKind,
    changed_members,
    find_content,
    list_revisions,
    owner_of,
)
from shared.storage.definitions.revisions import lock_edits, next_revision
from shared.storage.definitions.secrets import secret_ids
from shared.storage.definitions.webhook_fields import WebhookFields, WebhookKind, fields_of_content
from shared.storage.definitions.webhooks import StoredWebhook, WebhookEdit

_KINDS = {
    IdKind.AUTOMATION: (RevisionKind.AUTOMATION, "automation"),
    IdKind.WEBHOOK: (RevisionKind.WEBHOOK, "webhook"),
    IdKind.SLACK: (RevisionKind.WEBHOOK, "Slack integration"),
}


class RevisionView(View):
    """One edit of an automation, webhook or Slack integration."""

    number: int
    """It rises from edit to edit, with gaps."""
    at: datetime
    change: RevisionChange
    changed: list[str]
    """The members that the edit changed; empty for a new or deleted one."""
    by: str | None
    """The user's name, or which operator; null where Hookline made the change, or a state was found."""
    reason: str | None
    """Why Hookline made the change."""
    revision: int
    """The revision that the definition had after the edit."""


class Difference(View):
    """A member that an edit changed."""

    member: str
    before: Any
    after: Any


class RevisionDetail(RevisionView):
    """One edit, with the definition after it."""

    definition: dict[str, Any]
    """After the edit; before it, of a deleted one."""
    previous: int | None
    """The number of the kept revision before; null for the first."""
    differences: list[Difference]
    """What the edit changed, member by member."""


def list_of(
    connection: Connection, principal: Principal, entity_name: str, kind: IdKind, target: str, page: PageRequest
) -> Page[RevisionView]:
    """The kept revisions of a target, also of a deleted one, newest first. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.READ)
    number = _number(connection, entity, kind, target)
    rows = list_revisions(connection, _KINDS[kind][0], number, before=page.position, limit=page.with_one_more)
    return page.page(rows, lambda row: RevisionView(**_facts(row)), lambda row: row.id)


def get(
    connection: Connection, principal: Principal, entity_name: str, kind: IdKind, target: str, number: int
) -> RevisionDetail:
    """One kept revision with its definition. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.READ)
    target_id = _number(connection, entity, kind, target)
    rows = list_revisions(connection, _KINDS[kind][0], target_id, before=number + 1, limit=2)
    if not rows or rows[0].id != number:
        raise _unknown(kind, target, number)
    content = _content(connection, kind, target, target_id, number)
    previous = rows[1].id if len(rows) > 1 else None
    differences = []
    if previous is not None:
        before, after = _shown(kind, _content(connection, kind, target, target_id, previous)), _shown(kind, content)
        members = changed_members(before, after)
        differences = [Difference(member=m, before=before.get(m), after=after.get(m)) for m in members]
    return RevisionDetail(
        **_facts(rows[0]), definition=_shown(kind, content), previous=previous, differences=differences
    )


def restore_automation(
    connection: Connection, principal: Principal, entity_name: str, automation_id: str, number: int
) -> automations.AutomationView:
    """Make an automation what it was after a kept revision; a deleted one lives again.

    Raises:
        NotFound: when there is no such automation or revision.
        InvalidDefinition: when it can't be that any more, for example because its webhook is gone.
        Conflict: when another automation has its name.
    """
    entity = require(connection, principal, entity_name, Action.AUTOMATE)
    lock_edits(connection)
    target_id = _number(connection, entity, IdKind.AUTOMATION, automation_id)
    content = _content(connection, IdKind.AUTOMATION, automation_id, target_id, number)
    live = automation_store.find_automation(connection, entity.id, automation_id=target_id)
    before = live or automation_store.find_deleted(connection, entity.id, target_id)
    if before is None:
        raise _unknown(IdKind.AUTOMATION, automation_id, number)
    kept = before if before.webhook_id == content["webhook_id"] else None
    raw = _shown(IdKind.AUTOMATION, content)
    definition = WebhookResolver(connection, entity, principal, kept=kept).parse(raw, was=raw)
    stored = automations.save_automation(
        connection, entity, before, definition, by=principal.user_name, revives=live is None
    )
    if live is None or stored.revision != live.revision:
        changed = changed_members(before.definition, stored.definition)
        automations.record_automation_change(connection, principal, entity, "restore", stored, changed=changed)
    return automations.automation_view(entity, stored)


def restore_webhook(
    connection: Connection, principal: Principal, entity_name: str, webhook_id: str, number: int, *, checks: Checks
) -> webhooks.WebhookView:
    """Make a webhook what it was after a kept revision. Raises as `restore_automation`."""
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    stored = _restore_webhook(connection, principal, entity, IdKind.WEBHOOK, webhook_id, number, checks)
    return webhooks.webhook_view(connection, entity, stored, vault=checks.vault)


def restore_slack(
    connection: Connection, principal: Principal, entity_name: str, slack_id: str, number: int, *, checks: Checks
) -> slack.SlackView:
    """Make a Slack integration what it was after a kept revision. Raises as `restore_automation`."""
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    stored = _restore_webhook(connection, principal, entity, IdKind.SLACK, slack_id, number, checks)
    return slack.slack_view(connection, entity, stored)


def _restore_webhook(
    connection: Connection,
    principal: Principal,
    entity: StoredEntity,
    kind: IdKind,
    target: str,
    number: int,
    checks: Checks,
) -> StoredWebhook:
    lock_edits(connection)
    target_id = _number(connection, entity, kind, target)
    raw = _shown(kind, _content(connection, kind, target, target_id, number))
    check = check_webhook if kind is IdKind.WEBHOOK else slack.check_slack
    live = webhook_store.find_webhook(connection, entity.id, webhook_id=target_id, kind=None)
    fields = check(connection, entity, raw, checks=checks, before=None if live is None else live.fields)
    if live is not None:
        stored = webhooks.save_webhook(connection, entity, live, fields, by=principal.user_name)
    else:
        stored = _revive(connection, principal, entity, target_id, fields)
    webhooks.check_automations(connection, stored)
    if live is None or stored.revision != live.revision:
        changed = [] if live is None else changed_members(_body(live), _body(stored))
        webhooks.record_webhook_change(connection, principal, entity, "restore", stored, changed=changed)
    return stored


def _revive(
    connection: Connection,
    principal: Principal,
    entity: StoredEntity,
    target_id: int,
    fields: WebhookFields,
) -> StoredWebhook:
    namesake = webhook_store.find_webhook(connection, entity.id, name=fields.name, kind=None)
    if namesake is not None:
        raise webhooks.name_conflict(entity, namesake.fields.kind, fields.name)
    webhook_store.revive_webhook(connection, target_id, fields.name)
    stored = webhook_store.find_webhook(connection, entity.id, webhook_id=target_id, kind=None)
    assert stored is not None  # noqa: S101 - it has kept revisions, so it has a row
    edit = WebhookEdit(stored=stored, after=fields, revision=next_revision(connection), clear_failures=fields.enabled)
    ids, now = secret_ids(connection, entity.id), database_time(connection)
    webhook_store.update_webhooks(connection, [edit], secret_ids=ids, now=now, by=principal.user_name)
    found = webhook_store.find_webhook(connection, entity.id, webhook_id=target_id, kind=None)
    assert found is not None  # noqa: S101
    return found


def _body(stored: StoredWebhook) -> dict[str, Any]:
    is_slack = stored.fields.kind is WebhookKind.SLACK
    return slack.slack_body(stored) if is_slack else webhooks.webhook_body(stored)


def _number(connection: Connection, entity: StoredEntity, kind: IdKind, target: str) -> int:
    """The number of a target of the entity that exists or has kept revisions. Raises NotFound."""
    number = decode_id(kind, target)
    if number is not None and _exists(connection, entity, kind, number):
        return number
    raise NotFound(f"{entity.name!r} has no {_KINDS[kind][1]} {target!r}")


def _exists(connection: Connection, entity: StoredEntity, kind: IdKind, number: int) -> bool:
    if kind is IdKind.AUTOMATION:
        if automation_store.find_automation(connection, entity.id, automation_id=number) is not None:
            return True
        return owner_of(connection, RevisionKind.AUTOMATION, number) == entity.id
    wanted = WebhookKind.WEBHOOK if kind is IdKind.WEBHOOK else WebhookKind.SLACK
    return webhook_store.kind_of(connection, entity.id, number) == wanted


def _content(connection: Connection, kind: IdKind, target: str, target_id: int, number: int) -> dict[str, Any]:
    content = find_content(connection, _KINDS[kind][0], target_id, number)
    if content is None:
        raise _unknown(kind, target, number)
    return content


def _unknown(kind: IdKind, target: str, number: int) -> NotFound:
    return NotFound(f"{_KINDS[kind][1]} {target!r} has no kept revision {number}")


def _facts(row: KeptRevision) -> dict[str, Any]:
    return {
        "number": row.id,
        "at": row.at,
        "change": row.change,
        "changed": sorted({_member_of(name) for name in row.changed}),
        "by": row.by,
        "reason": row.reason,
        "revision": row.revision,
    }


def _member_of(column: str) -> str:
    """The member of a definition that a kept column is, or is a part of."""
    return "basic" if column.startswith("basic_") else column.removeprefix("slack_")


def _shown(kind: IdKind, content: dict[str, Any]) -> dict[str, Any]:
    """A kept content in the form in which definitions are sent in."""
    if kind is IdKind.AUTOMATION:
        return {key: value for key, value in content.items() if key not in BESIDE_DEFINITION}
    fields = fields_of_content(content)
    return webhooks.body_of_fields(fields) if kind is IdKind.WEBHOOK else slack.body_of_fields(fields)
