"""How much one entity may define, so that none takes the memory and time of all others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final


class Quota(StrEnum):
    """What is counted."""

    AUTOMATIONS = "automations"
    #: With Slack integrations, which are webhooks of another kind.
    WEBHOOKS = "webhooks"
    SECRETS = "secrets"
    #: Webhooks in.
    SOURCES = "sources"
    #: Bytes of all automations' definitions, as JSON.
    DEFINITION_BYTES = "definition_bytes"


DEFAULT_LIMITS: Final[Mapping[Quota, int]] = MappingProxyType(
    {
        Quota.AUTOMATIONS: 1000,
        Quota.WEBHOOKS: 200,
        Quota.SECRETS: 500,
        Quota.SOURCES: 100,
        Quota.DEFINITION_BYTES: 16 << 20,
    }
)
"""The limits of an entity that has none of its own: several times what teams have, and what a worker holds easily."""
EVENTS_PER_SECOND: Final = "events_per_second"
"""The name of the limit on publishing, which counts no definitions and is none by default."""
MAX_LIMIT: Final = 1 << 40
"""The largest limit that can be set; it stands for none."""


def limits_of(own: Mapping[str, int] | None) -> dict[Quota, int]:
    """An entity's limits: its own, and the defaults for the rest. Quotas that this version doesn't know are ignored."""
    return {quota: DEFAULT_LIMITS[quota] if own is None else own.get(quota, DEFAULT_LIMITS[quota]) for quota in Quota}


def exceeded(limits: Mapping[Quota, int], before: Mapping[Quota, int], after: Mapping[Quota, int]) -> list[Quota]:
    """The quotas that a change passes: what was beyond a limit before it may stay, or become less."""
    return [quota for quota in Quota if after[quota] > limits[quota] and after[quota] > before[quota]]


def weight_bytes(definition: Mapping[str, Any]) -> int:
    """What an automation's definition counts for among its entity's."""
    return len(json.dumps(definition, separators=(",", ":")))
