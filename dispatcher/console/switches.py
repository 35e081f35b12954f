"""The buttons that hold a webhook or Slack integration, or let it go on."""

from __future__ import annotations

from typing import Final, Literal

Switch = Literal["pause", "resume", "enable", "disable"]
SWITCHES: Final[dict[Switch, dict[str, bool]]] = {
    "pause": {"paused": True},
    "resume": {"paused": False},
    "enable": {"enabled": True},
    "disable": {"enabled": False},
}
"""The merge patch that each button stands for."""
