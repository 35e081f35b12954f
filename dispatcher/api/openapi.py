"""The OpenAPI document: FastAPI's, completed with examples and with the header `Idempotency-Key`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from dispatcher.api.described_forms import REFERENCE, components, reference, simplified
from dispatcher.api.examples import ANSWERS, REQUESTS
from dispatcher.api.idempotency import PARAMETER, takes_key
from dispatcher.api.problems import PROBLEM_SCHEMA

_PAGE = re.compile(r"#/components/schemas/(TwoWay)?Page_(?:Listed)?(\w+?)_")
_COMPONENT = re.compile(r"#/components/schemas/(\w+)")
_VIEW = REFERENCE.format(model="AutomationView")
_WITH_AUTOMATIONS = {
    "list_automations": "#/components/schemas/Page_AutomationView_",
    "create_automation": _VIEW,
    "get_automation": _VIEW,
    "change_automation": _VIEW,
}


class HooklineApi(FastAPI):
    """An application whose document is completed."""

    def __init__(self, **described: Any) -> None:
        super().__init__(**described, openapi_url=None)  # `pages` has it
        self._texts: dict[str, bytes] = {}
        """By the prefix of its server's paths."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        fresh = self.openapi_schema is None
        document = super().openapi()
        if fresh:
            schemas = document["components"]["schemas"]
            _add_automation_view(schemas)
            own = components()
            if twice := {name for name in own.keys() & schemas.keys() if not _same_form(own[name], schemas[name])}:
                raise RuntimeError(f"two components have these names: {', '.join(sorted(twice))}")
            schemas |= own
            for path, method, operation in _operations(document):
                if takes_key(method.upper(), path):
                    operation.setdefault("parameters", []).append(PARAMETER)
                _name_automation_view(operation)
                _add_examples(operation)
                _name_body(operation, schemas)
            schemas[PROBLEM_SCHEMA["title"]] = PROBLEM_SCHEMA
            document["paths"] = _with_problems_named(document["paths"])
        prefix = self.state.settings.root_path
        return document | {"servers": [{"url": prefix}]} if prefix else document

    def openapi_text(self) -> bytes:
        """The document as JSON, made once: whoever has no key may ask for it again and again."""
        prefix = self.state.settings.root_path
        if self._texts.get(prefix) is None:
            self._texts[prefix] = bytes(JSONResponse(self.openapi()).body)
        return self._texts[prefix]


def _add_automation_view(schemas: dict[str, Any]) -> None:
    """The form of an automation, which `shared.domain.automations.parsing` checks by hand and no model tells."""
    page = schemas.pop("Page_dict_str__Any__")
    items = {**page["properties"]["items"], "items": {"$ref": _VIEW}}
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


def _same_form(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether both are the same enumeration, which models that have it bring along."""
    return one.get("enum") is not None and one["enum"] == other.get("enum")


def _name_body(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Make a component of a body that has a title; a patch, which requires nothing, is another one."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content["schema"] = simplified(content["schema"])
        name = schema.get("title")
        if name is None:
            continue
        if "required" not in schema and "required" in schemas.get(name, {}):
            name = f"{name.removesuffix('Body')}Patch"
        if schemas.setdefault(name, schema | {"title": name}) == schema | {"title": name}:
            content["schema"] = reference(name)


def _with_problems_named(node: Any) -> Any:
    """The problem document once, by reference: most generators make a class of each place where it is written out."""
    if isinstance(node, list):
        return [_with_problems_named(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node == PROBLEM_SCHEMA:
        return reference(PROBLEM_SCHEMA["title"])
    return {key: _with_problems_named(value) for key, value in node.items()}


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _add_examples(operation: dict[str, Any]) -> None:
    if (sent := REQUESTS.get(operation["operationId"])) is not None:
        for content in operation["requestBody"]["content"].values():
            content["example"] = sent
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
