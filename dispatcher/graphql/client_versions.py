"""Which `wandb` client asks, by its User-Agent, and what that version can read.

A client that meets one event type that it does not know can't read the listing that it is in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from shared.domain.filters.wandb import WandbEventType

ClientVersion = tuple[int, int, int]
NEWEST: Final[ClientVersion] = (999, 0, 0)
"""Of a client that does not say its version."""

_USER_AGENT: Final = re.compile(r"W&B Public Client (\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?")
_READ_SINCE: Final[Mapping[WandbEventType, ClientVersion]] = {
    **dict.fromkeys((WandbEventType.RUN_STATE, WandbEventType.RUN_METRIC_ZSCORE), (0, 23, 1)),
    **dict.fromkeys(
        (
            WandbEventType.UNLINK_ARTIFACT,
            WandbEventType.ADD_ARTIFACT_TAG,
            WandbEventType.REMOVE_ARTIFACT_TAG,
            WandbEventType.ADD_COLLECTION_TAG,
            WandbEventType.REMOVE_COLLECTION_TAG,
        ),
        (0, 27, 1),
    ),
}
"""The first version that reads an event type; the others have been read since there are automations."""


def client_version(user_agent: str) -> ClientVersion:
    """The version that a User-Agent tells."""
    match = _USER_AGENT.match(user_agent)
    return NEWEST if match is None else (int(match[1]), int(match[2]), int(match[3] or 0))


def reads(client: ClientVersion, event_type: WandbEventType) -> bool:
    """Whether this version can read automations on such events."""
    return client >= _READ_SINCE.get(event_type, client)
