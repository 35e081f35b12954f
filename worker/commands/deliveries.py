"""`celery -A worker deliveries …`: list, show, and replay.

Declares the commands and their options; each imports what it works with when it runs (`worker.commands` says why).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from worker.commands.exchanges import exchange_members
from worker.commands.output import (
    NOTHING,
    as_json,
    complain,
    opened,
    operators_group,
    print_json,
    print_members,
    print_rows,
    print_table,
    say,
)

LISTED = ("created_at", "id", "status", "entity", "automation", "webhook", "event_type", "attempts", "reason")
ATTEMPTS = ("number", "started_at", "duration_ms", "outcome", "status_code", "error", "response_body")
STATUSES = ("pending", "delivered", "dead", "refused", "skipped")


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.option("--entity", help="Only this entity's."),
            click.option(
                "--status", type=click.Choice(STATUSES), multiple=True, help="Only with this status, or these."
            ),
            click.option("--automation", help="Only for this automation, by id or name."),
            click.option("--webhook", help="Only for this webhook, by id or name."),
            click.option("--event", help="Only for the event with this id."),
            click.option("--event-type", multiple=True, help="Only for events of this type, or of these."),
            click.option("--project", help="Only for events of this project or registry."),
            click.option("--run", help="Only for events of the run with this id."),
            click.option("--collection", help="Only for events of this collection."),
            click.option(
                "--response-code", type=click.IntRange(100, 599), multiple=True, help="Only if answered with it once."
            ),
            click.option("--min-attempts", type=click.IntRange(0), help="Only with at least so many attempts."),
            click.option("--max-attempts", type=click.IntRange(0), help="Only with at most so many attempts."),
            click.option("--reason", help="Only with this text in the reason, in any case."),
            click.option("--since", help="Only created at this time or later; a time, or how long ago, such as 1h."),
            click.option("--until", help="Only created before this time; a time, or how long ago, such as 1h."),
        )
    ):
        command = option(command)
    return command


@operators_group("deliveries")
def deliveries() -> None:
    """Hookline: list, show and replay deliveries."""


@deliveries.command("list")
@_filters
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Show at most this many.")
@as_json
def list_(*, limit: int, as_json: bool, **filters: Any) -> None:
    """List deliveries, newest first. Exits with 1 if none match."""
    from worker.operations.deliveries import list_deliveries

    with opened() as (_settings, engine):
        rows = list_deliveries(engine, filters, limit)
    print_rows(LISTED, rows if as_json else [_with_wait(row) for row in rows], as_json=as_json)


@deliveries.command()
@click.argument("delivery")
@as_json
def show(delivery: str, as_json: bool) -> None:
    """Show DELIVERY, an id: its event, its payload with secrets masked, and each attempt: what was sent, what came."""
    from worker.operations.deliveries import describe_delivery

    with opened() as (_settings, engine):
        row = describe_delivery(engine, delivery)
    if row is None:
        complain(f"there is no delivery {delivery!r}")
        click.get_current_context().exit(NOTHING)
    if as_json:
        print_json(row)
        return
    print_members({member: value for member, value in _with_wait(row).items() if member != "attempt_log"})
    if row["attempt_log"]:
        print_table(ATTEMPTS, row["attempt_log"])
    for attempt in row["attempt_log"]:
        if members := exchange_members(attempt):
            print_members({"attempt": attempt["number"], **members})


def _with_wait(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for people: what a pending delivery waits for stands where the reason of others does."""
    from shared.domain.delivery.waiting import WAIT_WORDS

    waiting = row["waiting"]
    shown = {member: value for member, value in row.items() if member != "waiting"}
    if waiting is None:
        return shown
    until = "" if waiting["until"] is None else f", until {waiting['until']:%Y-%m-%d %H:%M:%S}Z"
    return {**shown, "reason": f"waits for: {WAIT_WORDS[waiting['reason']]}{until}"}


@deliveries.command()
@click.argument("delivery", required=False)
@_filters
@click.option("--rate", help="Spread them evenly, at this rate at most: 10/s, 60/min.")
@click.option("--again", is_flag=True, help="Also replay those that were replayed before.")
@click.option("--dry-run", is_flag=True, help="Only show what would be replayed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def replay(
    *,
    delivery: str | None,
    rate: str | None,
    again: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **filters: Any,
) -> None:
    """Replay DELIVERY, an id, or all that match the filters. New deliveries name the old ones.

    Deliveries that are pending, have no payload, or whose webhook was deleted are left out. So are deliveries that
    were replayed before, unless --again. Exits with 1 if none is left.
    """
    if (delivery is None) != any(value not in (None, ()) for value in filters.values()):
        raise click.UsageError("give either DELIVERY or at least one filter")
    from worker.operations.deliveries import find_replayable, list_to_replay, replay_deliveries

    with opened() as (_settings, engine):
        if delivery is not None:
            plan = find_replayable(engine, delivery)
        else:
            plan = list_to_replay(engine, filters, rate, again=again)
        if dry_run or (delivery is None and plan.count and not yes):
            say(plan.text(), err=not dry_run)
        if plan.count and not dry_run:
            if delivery is None and not yes:
                click.confirm("Replay them?", abort=True, err=True)
            plan = replay_deliveries(engine, plan)
    if as_json:
        print_json(plan.to_json())
    elif not dry_run:
        say(plan.text())
    click.get_current_context().exit(0 if plan.count else NOTHING)
