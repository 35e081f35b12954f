"""The addresses of the console's pages about a firing, for people who read what it sent.

They name the entity, the automation and the delivery, and nothing of the event; who follows one has to sign in.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from shared.domain.ids import IdKind, encode_id


@dataclass(frozen=True, slots=True)
class FiringLinks:
    """Where browsers find the automation that fired, and the delivery that it made."""

    console: str
    """The console's address, such as `https://hooks.example.com/console`."""
    entity: str
    automation_id: int
    delivery_id: str | None
    """None for what is not stored, such as a test request: it has no page."""

    @property
    def automation_url(self) -> str:
        """The page of the automation."""
        return f"{self._entity_url}/automations/{encode_id(IdKind.AUTOMATION, self.automation_id)}"

    @property
    def delivery_url(self) -> str | None:
        """The page of the delivery; None where there is none."""
        return None if self.delivery_id is None else f"{self._entity_url}/deliveries/{self.delivery_id}"

    @property
    def _entity_url(self) -> str:
        return f"{self.console}/e/{quote(self.entity, safe='')}"
