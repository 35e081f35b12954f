"""Runs in the interpreter of a client version: evaluates the expressions that it reads, one in each line.

A line is `{"do": "<expression>", "with": {name: value}}`, answered by `{"gave": …, "seconds": …}` or
`{"raised": [type, message], "seconds": …}`. Nothing of Hookline is imported, and nothing newer than Python 3.9 is used.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import sys
import time
import warnings
from typing import Any

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
wandb: Any = importlib.import_module("wandb")
automations: Any = importlib.import_module("wandb.automations")


class Calls:
    """What expressions may name: the client's own names, `api`, `connect`, and a few look-ups."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {**vars(automations), "wandb": wandb, "json": json, "connect": self.connect}
        self.names |= {"webhook": self.webhook, "named": self.named, "reread": self.reread, "returned": self.returned}
        self.names |= {"complete": self.complete, "run": self.run, "script": {}}

    def connect(self, url: str, key: str) -> str:
        """Log in; gives the client's version."""
        os.environ.update(WANDB_BASE_URL=url, WANDB_API_KEY=key)  # where older clients look first
        self.names["api"] = wandb.Api(overrides={"base_url": url}, api_key=key)
        return str(wandb.__version__)

    def complete(self, folder: str) -> None:
        """Import `hookline.wandb` from a folder."""
        sys.path.append(folder)
        importlib.import_module("hookline.wandb")

    def run(self, text: str, begin: bool = False) -> str:
        """Run a piece of a script, whose names are in `script`, where the piece before left them; gives its output."""
        script = self.names["script"]
        if begin:
            script.clear()
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(compile(text, "<script>", "exec"), script)  # noqa: S102 the tests give it
        return output.getvalue()

    def webhook(self, name: str, entity: str = "acme") -> Any:
        """A webhook by its name."""
        return next(w for w in self.names["api"].webhook_integrations(entity=entity) if w.name == name)

    def named(self, listing: Any) -> list[str]:
        """The names of what a listing gives."""
        return [one.name for one in listing]

    def reread(self, saved: list[Any]) -> list[Any]:
        """What the client would send back of each saved event, by type and filter; None of one that it can't read."""
        return [self._reread(event_type, event_filter) for event_type, event_filter in saved]

    def _reread(self, event_type: str, event_filter: str) -> Any:
        event = {"__typename": "FilterEventTriggeringCondition", "filter": event_filter}
        trigger: dict[str, Any] = {
            "__typename": "Trigger",
            "id": "aut_1",
            "name": "n",
            "description": None,
            "enabled": True,
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": None,
            "scope": {"__typename": "Project", "id": "UA==", "name": "p"},
            "event": {
                **event,
                "eventType": event_type,
                "event_type": event_type,
            },  # older clients ask by the other name
            "action": {"__typename": "NoOpTriggeredAction", "noOp": True, "no_op": True},
        }
        try:
            automation = self._parsed(trigger)
        except ValueError:
            return None
        sent = self._prepare()(automation, description="x").model_dump(by_alias=True)
        return [sent["triggeringEventType"], sent["eventFilter"]]

    def _parsed(self, trigger: dict[str, Any]) -> Any:
        generated = importlib.import_module("wandb.automations._generated")
        fragment = getattr(generated, "TriggerFields", None)
        try:
            return automations.Automation.model_validate(fragment.model_validate(trigger) if fragment else trigger)
        except ValueError:
            return automations.Automation.model_validate(trigger)

    def _prepare(self) -> Any:
        for name in ("_inputs", "_utils"):
            try:
                return importlib.import_module(f"wandb.automations.{name}").prepare_to_update
            except ImportError:
                continue
        raise ImportError("prepare_to_update")

    def returned(self, automation: Any) -> Any:
        """The client's automation as plain values."""
        return {
            "id": automation.id,
            "name": automation.name,
            "enabled": automation.enabled,
            "description": automation.description,
            "event": str(automation.event.event_type.value),
            "scope": automation.scope.name,
            "action": str(automation.action.action_type.value),
        }

    def answer(self, line: str) -> dict[str, Any]:
        """The answer to one line."""
        asked = json.loads(line)
        began = time.monotonic()
        try:
            gave = eval(asked["do"], {**self.names, **asked["with"]})  # noqa: S307 the tests wrote it
            answered: dict[str, Any] = {"gave": gave}
        except Exception as exc:
            answered = {"raised": [type(exc).__name__, str(exc)]}
        return {**answered, "seconds": time.monotonic() - began}


def main() -> None:
    """Answer line by line; what the client prints itself goes to standard error."""
    lines, answers = sys.stdin, sys.stdout
    sys.stdin, sys.stdout = open(os.devnull), sys.stderr  # noqa: PTH123, SIM115 for as long as this runs
    calls = Calls()
    for line in lines:
        answers.write(json.dumps(calls.answer(line), default=str) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
