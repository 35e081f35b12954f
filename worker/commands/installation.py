"""`celery -A worker hookline status`: whether the whole installation does what it is there for.

Declares the command; it imports what it works with when it runs (`worker.commands` says why).
"""

from __future__ import annotations

import click

from worker.commands.output import NOTHING, as_json, opened, operators_group, print_json, print_table, say

CHECKS = ("status", "check", "value", "threshold", "severity", "detail", "runbook")
PROCESSES = ("role", "name", "pid", "version", "queues", "seen_seconds_ago")
WEBHOOKS = ("entity", "name", "id", "trouble", "since", "pending", "reason")


@operators_group("hookline")
def hookline() -> None:
    """Hookline: show the health of the whole installation."""


@hookline.command()
@as_json
def status(as_json: bool) -> None:
    """Check evaluation, deliveries, streams, processes, and what they run on, each with its runbook.

    Exits with 0 if all is well and with 1 if a check fails. The keys that it tries secrets with are this machine's.
    """
    from worker.operations.installation import describe_installation, rows_of_checks

    with opened() as (settings, engine):
        answer = describe_installation(settings, engine)
    if as_json:
        print_json(answer)
    else:
        print_table(CHECKS, rows_of_checks(answer))
        if answer["processes"]:
            print_table(PROCESSES, answer["processes"])
        if answer["webhooks"]:
            print_table(WEBHOOKS, answer["webhooks"])
        failing = [one["name"] for one in answer["checks"] if one["status"] == "failing"]
        say(f"{answer['status']}: {', '.join(failing)}" if failing else "ok")
    click.get_current_context().exit(0 if answer["status"] == "ok" else NOTHING)
