"""`has_access_token` and `secrets` of a webhook: what a payload that it sends may use."""

from __future__ import annotations

from pydantic import Field, TypeAdapter
from wandb._pydantic import GQLResult
from wandb.automations import WebhookIntegration, integrations
from wandb.automations._generated import WebhookIntegrationFields
from wandb.automations._generated import integrations_by_entity as answers


class _Allowed(GQLResult):  # type: ignore[misc]
    has_access_token: bool = Field(default=False, alias="hasAccessToken")
    secrets: list[str] = Field(default=[])


def complete() -> None:
    """Let webhooks have both, and answers be read with them."""
    for model in (WebhookIntegrationFields, WebhookIntegration):
        model.model_fields.update(_Allowed.model_fields)
    for model in (  # each contains the ones before it
        WebhookIntegrationFields,
        WebhookIntegration,
        answers.IntegrationsByEntityEntityIntegrationsEdges,
        answers.IntegrationsByEntityEntityIntegrations,
        answers.IntegrationsByEntityEntity,
        answers.IntegrationsByEntity,
    ):
        model.model_rebuild(force=True)
    integrations.IntegrationAdapter = TypeAdapter(integrations.Integration)  # older pydantic can't rebuild one
