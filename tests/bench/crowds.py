"""Many webhooks, each with one automation in a project of its own, defined by manifests, and the events that fire them.

Every webhook has a signing secret and a URL of its own, so that its endpoint is one of its own as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.bench.events import ALIAS_PATTERN, ENTITY, EVENT_TYPE, PAYLOAD, make_events

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.events import Event
    from tests.bench.system import Hookline

QUOTAS = {"webhooks": 100_000, "automations": 100_000, "definition_bytes": 1 << 30}
"""What the entity may have: more than an entity has by default, since one has all the crowds."""
DEFINED_AT_A_TIME = 250
"""A manifest holds its entity's edits up for as long as it takes, and has a bound in bytes."""


class Crowd:
    """`size` webhooks of a running Hookline; events go to them in turn."""

    def __init__(self, name: str, size: int, *, policy: dict[str, Any] | None = None) -> None:
        self.name = name
        self.size = size
        self._policy = policy or {}

    def define(self, hookline: Hookline, url_of: Callable[[int], str], *, paused: bool = False) -> None:
        """Create the webhooks, at the URLs that are given by their numbers, and their automations; or edit them."""
        hookline.call("PATCH", f"/v1/entities/{ENTITY}", {"quotas": QUOTAS})
        for start in range(0, self.size, DEFINED_AT_A_TIME):
            numbers = range(start, min(start + DEFINED_AT_A_TIME, self.size))
            manifest = {
                "webhooks": [self._webhook(number, url_of(number)) | {"paused": paused} for number in numbers],
                "automations": [self._automation(number) for number in numbers],
            }
            hookline.call("POST", f"/v1/entities/{ENTITY}/apply", manifest)

    def events(self, label: str, count: int) -> list[Event]:
        """`count` events, the first for the first webhook, the next for the next, and so on in turn."""
        events = make_events(f"{label}-{self.name}", count)
        for number, event in enumerate(events):
            event["data"]["project"] = self.project(number % self.size)
        return events

    def project(self, number: int) -> str:
        """The project whose events fire the automation of the webhook with this number."""
        return f"{self.name}-{number}"

    def payload(self, _number: int) -> dict[str, Any]:
        """The payload of the automation with this number."""
        return PAYLOAD

    def _webhook(self, number: int, url: str) -> dict[str, Any]:
        return {
            "name": f"{self.name}-{number}",
            "url": url,
            "signing_secret": "SIGNING",
            "policy": self._policy,
        }

    def _automation(self, number: int) -> dict[str, Any]:
        return {
            "name": f"on-{self.name}-{number}",
            "scope": {"project": self.project(number)},
            "event": EVENT_TYPE,
            "filter": {"alias": {"$regex": ALIAS_PATTERN}},
            "action": {"webhook": f"{self.name}-{number}", "payload": self.payload(number)},
        }


class FanOut(Crowd):
    """Webhooks whose automations are in one project, so that each of its events fires all of them."""

    def project(self, _number: int) -> str:
        """The one project."""
        return self.name

    def payload(self, number: int) -> dict[str, Any]:
        """Tells each delivery of an event from the others."""
        return PAYLOAD | {"event_id": f"${{event_id}}/{number}"}
