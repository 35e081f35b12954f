"""Every name that something outside holds on to: log analysis, dashboards, brokers, databases, queued messages.

Read from the sources and the loaded modules. `python -m tests.unit.outside_names` writes the list that
`test_outside_names.py` compares with. A name may be added; one that goes or changes breaks somebody.
"""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from shared.messaging.celery_app import DELIVER_QUEUE, EVALUATE_QUEUE, PARTITION_TASK, SLOW_QUEUE, WEBHOOK_TASK
from shared.observability import metrics as declared
from shared.storage.schema.tables import metadata

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("outside_names.json")
PACKAGES = ("shared", "worker", "dispatcher")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def outside_names() -> dict[str, Any]:
    """All names, by kind, in a form that JSON can hold."""
    loggers: set[str] = set()
    metrics = [one for one in vars(declared).values() if isinstance(one, MetricWrapperBase)]
    lines: dict[str, set[str]] = defaultdict(set)
    keys: set[str] = set()
    for tree in _sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                loggers.update(_logger(node))
                for event, fields in _line(node):
                    lines[event].update(fields)
            keys.update(_redis_key(node))
    return {
        "loggers": sorted(loggers),
        "log lines": {event: sorted(fields) for event, fields in sorted(lines.items())},
        "metrics": {one._name: {"type": one._type, "labels": list(one._labelnames)} for one in metrics},
        "tasks": sorted([PARTITION_TASK, WEBHOOK_TASK]),
        "queues": sorted([DELIVER_QUEUE, EVALUATE_QUEUE, SLOW_QUEUE]),
        "Redis keys": sorted(keys),
        "tables": {name: sorted(table.columns.keys()) for name, table in sorted(metadata.tables.items())},
    }


def _sources() -> Iterator[ast.Module]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ast.parse(path.read_text())


def _logger(call: ast.Call) -> Iterator[str]:
    if isinstance(call.func, ast.Name) and call.func.id == "get_logger":
        name = call.args[0]
        # A logger that is named for its module changes the log when the module moves.
        yield str(name.value) if isinstance(name, ast.Constant) else f"not a literal: {ast.unparse(name)}"


def _line(call: ast.Call) -> Iterator[tuple[str, list[str]]]:
    if isinstance(call.func, ast.Attribute) and call.func.attr in LEVELS and call.args:
        event = call.args[0]
        if isinstance(event, ast.Constant) and isinstance(event.value, str) and "." in event.value:
            yield event.value, [word.arg for word in call.keywords if word.arg]


def _redis_key(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_key(node.value):
        yield node.value
    if isinstance(node, ast.JoinedStr):
        parts = [str(one.value) if isinstance(one, ast.Constant) else "<>" for one in node.values]
        if parts and _is_key(parts[0]):
            yield "".join(parts)


def _is_key(text: str) -> bool:
    return text.startswith("hookline:") and not text.startswith("hookline: ")


if __name__ == "__main__":
    LIST.write_text(json.dumps(outside_names(), indent=1) + "\n")
