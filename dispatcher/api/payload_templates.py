"""`/v1/payload-templates`: requests of well-known services to start from."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from dispatcher.api.list_queries import EventTypeName
from dispatcher.api.operation_index import checked_query
from dispatcher.control.payload_templates import views
from dispatcher.control.payload_templates.views import PayloadTemplateDetail, PayloadTemplates
from shared.domain.events.types import EventType

router = APIRouter(prefix="/v1/payload-templates", tags=["automations"], dependencies=[Depends(checked_query)])


@router.get("")
def list_payload_templates() -> PayloadTemplates:
    """List the payload templates: what well-known services ask of a request."""
    return views.list_templates()


@router.get("/{template}")
def get_payload_template(
    template: str,
    event: Annotated[
        EventTypeName, Query(description="The type of the events that the payload is about.")
    ] = EventType.ADD_ARTIFACT_ALIAS,
) -> PayloadTemplateDetail:
    """Get a payload template for a type of event: webhook, action, secrets, and the variables of such events."""
    return views.show_template(template, event)
