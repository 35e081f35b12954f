"""The OpenAPI document: FastAPI's, completed with examples and with the header `Idempotency-Key`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from dispatcher.api.automations import AUTOMATION_VIEW_SCHEMA
from dispatcher.api.examples import ANSWERS, REQUESTS
from dispatcher.api.idempotency import PARAMETER, takes_key

_PAGE = re.compile(r"#/components/schemas/(TwoWay)?Page_(?:Listed)?(\w+?)_")
_COMPONENT = re.compile(r"#/components/schemas/(\w+)")
_VIEW = "#/components/schemas/AutomationView"
_WITH_AUTOMATIONS = {
    "list_automations": "#/components/schemas/Page_AutomationView_",
    "create_automation": _VIEW,
    "get_automation": _VIEW,
    "change_automation": _VIEW,
}
_BATCH_TYPE = "application/cloudevents-batch+json"


class HooklineApi(FastAPI):
    """An application whose document is completed."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        fresh = self.openapi_schema is None
        document = super().openapi()
        if fresh:
            _add_automation_view(document["components"]["schemas"])
            for path, method, operation in _operations(document):
                if takes_key(method.upper(), path):
                    operation.setdefault("parameters", []).append(PARAMETER)
                _name_automation_view(operation)
                _add_examples(operation)
        return document


def _add_automation_view(schemas: dict[str, Any]) -> None:
    """The form of an automation, which `shared.domain.automations.parsing` checks by hand and no model tells."""
    page = schemas.pop("Page_dict_str__Any__")
    items = {**page["properties"]["items"], "items": {"$ref": _VIEW}}
    schemas["AutomationView"] = AUTOMATION_VIEW_SCHEMA
    schemas["Page_AutomationView_"] = {
        **page,
        "title": "Page[AutomationView]",
        "properties": {**page["properties"], "items": items},
    }


def _name_automation_view(operation: dict[str, Any]) -> None:
    if operation["operationId"] in _WITH_AUTOMATIONS:
        for status, answer in operation["responses"].items():
            if status in ("200", "201"):
                answer["content"]["application/json"]["schema"] = {"$ref": _WITH_AUTOMATIONS[operation["operationId"]]}


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _add_examples(operation: dict[str, Any]) -> None:
    if (sent := REQUESTS.get(operation["operationId"])) is not None:
        for media_type, content in operation["requestBody"]["content"].items():
            content["example"] = [sent] if media_type == _BATCH_TYPE else sent
    for status, answer in operation["responses"].items():
        content = answer.get("content", {}).get("application/json")
        if status.startswith("2") and content is not None and (example := _example(operation, content)) is not None:
            content["example"] = example


def _example(operation: dict[str, Any], content: dict[str, Any]) -> Any:
    reference = content["schema"].get("$ref", "")
    if page := _PAGE.fullmatch(reference):
        item = ANSWERS.get(page[2])
        return None if item is None else {"items": [item], "next": None} | ({"previous": None} if page[1] else {})
    found = _COMPONENT.fullmatch(reference)
    return ANSWERS.get(found[1] if found else operation["operationId"])
