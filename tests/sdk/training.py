"""A training that uses the `wandb` client, in an interpreter that has some version of it; nothing of Hookline is here.

Its argument is JSON: a list of runs, each with `init`, what `wandb.init` gets; `log`, what `run.log` gets, one after
another; `do`, expressions of `run` and `wandb`; `exit_code`. Prints, as JSON, what it saw of each.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

wandb: Any = importlib.import_module("wandb")


def train(asked: dict[str, Any]) -> dict[str, Any]:
    """One run; what it saw."""
    raised: list[str] = []
    try:
        run = wandb.init(**asked["init"])
    except Exception as exc:
        return {"raised": [f"{type(exc).__name__}: {exc}"]}
    saw = {"resumed": bool(run.resumed), "config": dict(run.config), "raised": raised}
    for line in asked.get("log", ()):
        run.log(line)
    for do in asked.get("do", ()):
        try:
            eval(do, {"run": run, "wandb": wandb})  # noqa: S307 - the test's own
        except Exception as exc:
            raised.append(f"{type(exc).__name__}: {exc}")
    run.finish(exit_code=asked.get("exit_code", 0))
    return saw


if __name__ == "__main__":
    print(json.dumps([train(asked) for asked in json.loads(sys.argv[1])]))
