"""The sources of events that Hookline makes itself. Nobody may publish with them.

An event is known by its source and id: who could guess the id of a real one would have that taken for a repeat.
"""

from __future__ import annotations

from typing import Final

SYSTEM: Final = "/hookline"
"""Of notices, and of runs that went silent."""
WANDB_RUNS: Final = "/wandb"
"""Of what the `wandb` client says of its runs."""
_WEBHOOKS_IN: Final = "/in/"


def source_of_webhooks(source_id: str) -> str:
    """That of the webhooks that a source takes in, by the source's public id."""
    return f"{_WEBHOOKS_IN}{source_id}"


def is_own_source(source: str) -> bool:
    """Whether only Hookline publishes with it."""
    return source in (SYSTEM, WANDB_RUNS) or source.startswith(source_of_webhooks("src_"))
