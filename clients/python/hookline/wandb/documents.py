"""The GraphQL documents that the client sends: with them it asks for what its completed classes can read."""

from __future__ import annotations

import re

from wandb.apis.public import automations, integrations
from wandb.automations import _generated
from wandb.automations._generated import operations

_INTEGRATION = re.compile(r"(fragment WebhookIntegrationFields on GenericWebhookIntegration \{[^}]*)\}")
_FILTER = re.compile(r"(fragment FilterEventFields on FilterEventTriggeringCondition \{[^}]*\n\s*filter)(\s)")


def complete() -> None:
    """Ask for automations with several conditions too, and for what webhooks allow."""
    for name in [name for name in vars(operations) if name.endswith("_GQL")]:
        document = _FILTER.sub(r"\1(allOf: true)\2", getattr(operations, name))
        document = _INTEGRATION.sub(r"\1  hasAccessToken\n  secrets\n}", document)
        setattr(operations, name, document)
        setattr(_generated, name, document)
    for module in (automations, integrations):
        for kind in vars(module).values():  # each keeps its document from when it was first used
            if isinstance(kind, type) and kind.__module__ == module.__name__ and "QUERY" in vars(kind):
                kind.QUERY = None  # type: ignore[attr-defined]
