"""Payload templates as REST, the command line and the console show them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dispatcher.control.bodies import View
from dispatcher.control.errors import NotFound
from dispatcher.control.payload_templates.services import TEMPLATES, PayloadTemplate
from dispatcher.control.payload_templates.words import words_of
from shared.domain.errors import InvalidDefinition
from shared.domain.events.types import EventType
from shared.domain.payloads.names import described_variables


class PayloadTemplateView(View):
    """A service's request to start from, in short."""

    name: str
    service: str
    summary: str
    reference: str = Field(description="The service's public reference.")


class PayloadTemplates(View):
    """All payload templates."""

    items: list[PayloadTemplateView]


class PayloadTemplateDetail(PayloadTemplateView):
    """A service's request to start from, for automations on one type of event."""

    event: EventType
    webhook: dict[str, Any] = Field(description="A webhook's definition; words in capitals in it are to be replaced.")
    action: dict[str, Any] = Field(description="The action of an automation that calls this webhook.")
    secrets: dict[str, str] = Field(description="What each secret has to be that they name.")
    notes: list[str]
    variables: dict[str, str] = Field(
        description="The variables that events of this type can have, and what they mean."
    )


def list_templates() -> PayloadTemplates:
    """All payload templates, by service."""
    return PayloadTemplates(items=[PayloadTemplateView(**_short(one)) for one in TEMPLATES.values()])


def show_template(name: str, event: str = EventType.ADD_ARTIFACT_ALIAS) -> PayloadTemplateDetail:
    """One payload template, for a type of event.

    Raises:
        NotFound: there is none of this name.
        InvalidDefinition: there is no such type of event.
    """
    if name not in TEMPLATES:
        raise NotFound(f"there is no payload template {name!r}; there are {', '.join(TEMPLATES)}")
    if event not in set(EventType):
        raise InvalidDefinition.at(("event",), f"must be one of {', '.join(EventType)}")
    one, of = TEMPLATES[name], EventType(event)
    return PayloadTemplateDetail(
        **_short(one),
        event=of,
        webhook=dict(one.webhook),
        action=one.action(words_of(of)),
        secrets=dict(one.secrets),
        notes=list(one.notes),
        variables=described_variables(of),
    )


def _short(one: PayloadTemplate) -> dict[str, str]:
    return {"name": one.name, "service": one.service, "summary": one.summary, "reference": one.reference}
