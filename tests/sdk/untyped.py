"""Names of the client whose own annotations ask for more than they take; import this after a client was made."""

from __future__ import annotations

from typing import Any

import wandb.automations as typed

OnRunMetric: Any = typed.OnRunMetric
RunEvent: Any = typed.RunEvent
SendNotification: Any = typed.SendNotification
