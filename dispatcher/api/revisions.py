"""`…/revisions` of automations, webhooks and Slack integrations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Response
from sqlalchemy import Connection

from dispatcher.api import automations as automations_api
from dispatcher.api import slack as slack_api
from dispatcher.api import webhooks as webhooks_api
from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import Paging
from dispatcher.api.etags import Conditions, IfMatch, Version
from dispatcher.api.idempotency import OnceDep
from dispatcher.api.problems import Problem
from dispatcher.api.resources import ResourcesDep
from dispatcher.control import revisions
from dispatcher.control.access import Action, require
from dispatcher.control.automations import AutomationView
from dispatcher.control.errors import NotFound
from dispatcher.control.paging import Page
from dispatcher.control.revisions import RevisionDetail, RevisionView
from dispatcher.control.slack import SlackView
from dispatcher.control.webhooks import WebhookView
from shared.domain.ids import MAX_ROW_NUMBER, IdKind
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/v1/entities/{entity}", tags=["revisions"])

Number = Annotated[int, Path(ge=1, lt=MAX_ROW_NUMBER, description="The revision's number.")]


def _check(conditions: Conditions, connection: Connection, current: Callable[[], Version]) -> None:
    """Hold a restoration to its conditions: what was deleted has no ETag, so none that was named. Raises Problem."""
    try:
        conditions.check(connection, current)
    except NotFound:
        raise Problem(412, "precondition-failed", "it was deleted: restore it without If-Match") from None


@router.get("/automations/{automation_id}/revisions")
def list_automation_revisions(
    entity: str, automation_id: str, principal: PrincipalDep, resources: ResourcesDep, page: Paging
) -> Page[RevisionView]:
    """List the kept revisions of an automation, newest first: who changed what, and when. Also of a deleted one."""
    with read_transaction(resources.engine) as connection:
        return revisions.list_of(connection, principal, entity, IdKind.AUTOMATION, automation_id, page)


@router.get("/automations/{automation_id}/revisions/{number}")
def get_automation_revision(
    entity: str, automation_id: str, number: Number, principal: PrincipalDep, resources: ResourcesDep
) -> RevisionDetail:
    """Get one revision: the definition after the edit, and what the edit changed."""
    with read_transaction(resources.engine) as connection:
        return revisions.get(connection, principal, entity, IdKind.AUTOMATION, automation_id, number)


@router.post("/automations/{automation_id}/revisions/{number}/restore")
def restore_automation_revision(
    entity: str,
    automation_id: str,
    number: Number,
    principal: PrincipalDep,
    conditions: IfMatch,
    once: OnceDep,
    response: Response,
) -> AutomationView:
    """Make an automation what it was after an edit, as a new edit. A deleted one lives again."""
    with once.writing() as connection:
        require(connection, principal, entity, Action.AUTOMATE)
        current = partial(automations_api.current_version, connection, principal, entity, automation_id)
        _check(conditions, connection, current)
        restored = revisions.restore_automation(connection, principal, entity, automation_id, number)
    return automations_api.with_etag(response, restored)


@router.get("/webhooks/{webhook_id}/revisions")
def list_webhook_revisions(
    entity: str, webhook_id: str, principal: PrincipalDep, resources: ResourcesDep, page: Paging
) -> Page[RevisionView]:
    """List the kept revisions of a webhook, newest first: who changed what, and when. Also of a deleted one."""
    with read_transaction(resources.engine) as connection:
        return revisions.list_of(connection, principal, entity, IdKind.WEBHOOK, webhook_id, page)


@router.get("/webhooks/{webhook_id}/revisions/{number}")
def get_webhook_revision(
    entity: str, webhook_id: str, number: Number, principal: PrincipalDep, resources: ResourcesDep
) -> RevisionDetail:
    """Get one revision: the definition after the edit, and what the edit changed. Secrets are names."""
    with read_transaction(resources.engine) as connection:
        return revisions.get(connection, principal, entity, IdKind.WEBHOOK, webhook_id, number)


@router.post("/webhooks/{webhook_id}/revisions/{number}/restore")
def restore_webhook_revision(
    entity: str,
    webhook_id: str,
    number: Number,
    principal: PrincipalDep,
    resources: ResourcesDep,
    conditions: IfMatch,
    once: OnceDep,
    response: Response,
) -> WebhookView:
    """Make a webhook what it was after an edit, as a new edit. A deleted one lives again."""
    with once.writing() as connection:
        require(connection, principal, entity, Action.ADMINISTER)
        current = partial(
            webhooks_api.current_version, connection, principal, entity, webhook_id, resources.checks.vault
        )
        _check(conditions, connection, current)
        restored = revisions.restore_webhook(connection, principal, entity, webhook_id, number, checks=resources.checks)
    resources.wake_if_open(IdKind.WEBHOOK, restored)
    return webhooks_api.with_etag(response, restored)


@router.get("/slack/{slack_id}/revisions")
def list_slack_revisions(
    entity: str, slack_id: str, principal: PrincipalDep, resources: ResourcesDep, page: Paging
) -> Page[RevisionView]:
    """List the kept revisions of a Slack integration, newest first. Also of a deleted one."""
    with read_transaction(resources.engine) as connection:
        return revisions.list_of(connection, principal, entity, IdKind.SLACK, slack_id, page)


@router.get("/slack/{slack_id}/revisions/{number}")
def get_slack_revision(
    entity: str, slack_id: str, number: Number, principal: PrincipalDep, resources: ResourcesDep
) -> RevisionDetail:
    """Get one revision: the definition after the edit, and what the edit changed. Secrets are names."""
    with read_transaction(resources.engine) as connection:
        return revisions.get(connection, principal, entity, IdKind.SLACK, slack_id, number)


@router.post("/slack/{slack_id}/revisions/{number}/restore")
def restore_slack_revision(
    entity: str,
    slack_id: str,
    number: Number,
    principal: PrincipalDep,
    resources: ResourcesDep,
    conditions: IfMatch,
    once: OnceDep,
    response: Response,
) -> SlackView:
    """Make a Slack integration what it was after an edit, as a new edit. A deleted one lives again."""
    with once.writing() as connection:
        require(connection, principal, entity, Action.ADMINISTER)
        _check(conditions, connection, partial(slack_api.current_version, connection, principal, entity, slack_id))
        restored = revisions.restore_slack(connection, principal, entity, slack_id, number, checks=resources.checks)
    resources.wake_if_open(IdKind.SLACK, restored)
    return slack_api.with_etag(response, restored)
