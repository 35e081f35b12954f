"""What a form needs to offer: for each event type the variables of payloads and the fields of filters.

From the tables that the parsers read. Must not hold words of its own.
"""

from __future__ import annotations

from pydantic import Field

from dispatcher.control.bodies import View
from shared.domain.automations.model import CooldownUnit
from shared.domain.automations.parsing import own_unit
from shared.domain.events.types import NOTICE_TYPES, EventType
from shared.domain.filters.fields import filter_fields
from shared.domain.filters.operands import list_fields
from shared.domain.payloads.names import described_variables


class EventWords(View):
    """What an automation on one event type may name."""

    event: EventType
    published: bool = Field(description="Whether platforms publish it; false for what Hookline says of itself.")
    variables: dict[str, str] = Field(description="The variables of payloads, and what each means.")
    fields: list[str] = Field(description="The fields of filters.")
    lists: list[str] = Field(description="Those of them that are lists of texts.")
    objects: list[str] = Field(description="Prefixes of which any member is a field: `metadata.` for `metadata.lr`.")
    cooldown_units: list[CooldownUnit]


class Vocabulary(View):
    """What automations may name, by event type."""

    events: list[EventWords]


def vocabulary() -> Vocabulary:
    """All event types with their words."""
    return Vocabulary(events=[_words(event) for event in EventType])


def _words(event: EventType) -> EventWords:
    fields, prefixes = filter_fields(event)
    return EventWords(
        event=event,
        published=event not in NOTICE_TYPES,
        variables=described_variables(event),
        fields=sorted(fields),
        lists=sorted(fields & set(list_fields(event))),
        objects=sorted(prefixes),
        cooldown_units=list(dict.fromkeys((own_unit(event), CooldownUnit.AUTOMATION))),
    )
