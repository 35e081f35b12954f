"""Test requests: to a webhook, saved or not, to a Slack integration, and as an automation would make them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import JsonBody, accepts
from dispatcher.api.idempotency import OnceDep
from dispatcher.api.resources import ApiResources, ResourcesDep
from dispatcher.control import webhook_trials
from dispatcher.control.webhook_trials import AutomationTrialBody, DraftTrialBody, TrialBody, TrialView
from shared.delivery.webhook_trial import WebhookTrial
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/v1/entities/{entity}")

Prepare = Callable[[Connection, dict[str, Any]], WebhookTrial]


async def send(resources: ApiResources, once: OnceDep, prepare: Prepare) -> TrialView:
    """Prepare a test request in a transaction, send it, and answer with what came back."""

    def prepared() -> WebhookTrial:
        with read_transaction(resources.engine) as connection:
            return prepare(connection, {"contexts": resources.sender.contexts, "now": datetime.now(UTC)})

    trial = await run_in_threadpool(prepared)
    view = webhook_trials.trial_view(trial, await resources.sender.send(trial.request))
    await run_in_threadpool(once.mark_effective)  # the endpoint was called: a repeat must not call it again
    return view


@router.post("/webhooks/test", tags=["webhooks"], openapi_extra=accepts(DraftTrialBody))
async def test_unsaved_webhook(
    entity: str, body: JsonBody, principal: PrincipalDep, resources: ResourcesDep, once: OnceDep
) -> TrialView:
    """Send one test request to a webhook that is not saved. Nothing is stored."""
    return await send(
        resources,
        once,
        lambda connection, more: webhook_trials.prepare_draft(
            connection, principal, entity, body, checks=resources.checks, **more
        ),
    )


@router.post("/webhooks/{webhook_id}/test", tags=["webhooks"], openapi_extra=accepts(TrialBody))
async def test_webhook(
    entity: str, webhook_id: str, body: JsonBody, principal: PrincipalDep, resources: ResourcesDep, once: OnceDep
) -> TrialView:
    """Send one test request now, with sample values; the answer shows the request and the response."""
    return await send(
        resources,
        once,
        lambda connection, more: webhook_trials.prepare(
            connection, principal, entity, webhook_id, body, vault=resources.vault, **more
        ),
    )


@router.post("/slack/{slack_id}/test", tags=["slack"])
async def test_slack(
    entity: str, slack_id: str, principal: PrincipalDep, resources: ResourcesDep, once: OnceDep
) -> TrialView:
    """Send one test message to the Slack channel now; the answer shows the request and the response."""
    return await send(
        resources,
        once,
        lambda connection, more: webhook_trials.prepare_slack(
            connection, principal, entity, slack_id, vault=resources.vault, **more
        ),
    )


@router.post("/automations/{automation_id}/test", tags=["automations"], openapi_extra=accepts(AutomationTrialBody))
async def test_automation(
    entity: str, automation_id: str, body: JsonBody, principal: PrincipalDep, resources: ResourcesDep, once: OnceDep
) -> TrialView:
    """Send the request that the automation would make, with sample values or those of a given event.

    Its filter and conditions are not asked: `dry-run` says whether it would fire.
    """
    return await send(
        resources,
        once,
        lambda connection, more: webhook_trials.prepare_automation(
            connection,
            principal,
            entity,
            automation_id,
            body,
            vault=resources.vault,
            console=resources.settings.console_url,
            **more,
        ),
    )
