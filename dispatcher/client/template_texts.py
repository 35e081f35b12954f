"""Payload templates in a terminal: a list, and a YAML document for `hookline apply` with what has to be known first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dispatcher.client.yaml_documents import write_documents


def template_list(items: Iterable[Mapping[str, str]]) -> str:
    """A line for each template: its name, the service, and what it does."""
    rows = [(one["name"], one["service"], one["summary"]) for one in items]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "".join(f"{name:{widths[0]}}  {service:{widths[1]}}  {summary}\n" for name, service, summary in rows)


def template_document(detail: Mapping[str, Any]) -> str:
    """A template as a document, with its reference, secrets and notes as comments."""
    comments = [
        f"{detail['service']}: {detail['summary']}",
        detail["reference"],
        *(f"Secret {name}: {what}." for name, what in detail["secrets"].items()),
        *detail["notes"],
        "Replace the words in capitals, and ENTITY, before `hookline apply -f FILE`.",
    ]
    automation = {"name": f"{detail['name']}-on-{detail['event'].lower().replace('_', '-')}", "event": detail["event"]}
    if detail["event"] == "RUN_METRIC":
        automation["conditions"] = [{"metric": "METRIC", "op": "$gt", "threshold": 0}]
    if detail["event"] == "RUN_STATE":
        automation["states"] = ["failed", "crashed"]
    document = {
        "entity": "ENTITY",
        "webhooks": [detail["webhook"]],
        "automations": [{**automation, "action": detail["action"]}],
    }
    return "".join(f"# {line}\n" for line in comments) + write_documents([document])
