"""`celery -A worker automations …`: list, enable, disable, and explain why one would or would not fire.

Declares the commands and their options; each imports what it works with when it runs (`worker.commands` says why).
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Literal

import click

from worker.commands.completion import automation_names
from worker.commands.output import as_json, opened, operators_group, print_json, print_rows, say
from worker.commands.subjects import about

if TYPE_CHECKING:
    from worker.operations.automations import RunQuestion

Outcome = Literal["fired", "skipped", "no_match", "out_of_scope"]
OUTCOMES: tuple[Outcome, ...] = ("fired", "skipped", "no_match", "out_of_scope")
REASONS = (
    "event_type",
    "scope",
    "automation_disabled",
    "state",
    "filter",
    "filter_too_costly",
    "repeated",
    "no_new_sample",
    "conditions",
    "already_true",
    "webhook_disabled",
    "cooldown",
    "rate_limit",
    "payload_too_large",
    "webhook_paused",
    "not_created",
    "deleted",
    "not_kept",
    "not_evaluated",
    "not_recorded",
)
LISTED = ("entity", "name", "id", "enabled", "event", "webhook", "updated_at")
REVISIONS = ("number", "at", "by", "change", "changed", "revision")


@operators_group("automations")
def automations() -> None:
    """Hookline: list, enable, disable and explain automations."""


@automations.command("list")
@click.option("--entity", help="Only this entity's.")
@as_json
def list_(entity: str | None, as_json: bool) -> None:
    """List the automations."""
    from worker.operations.automations import list_automations

    with opened() as (_settings, engine):
        rows = list_automations(engine, entity)
    print_rows(LISTED, rows, as_json=as_json)


@automations.command()
@about("automation", automation_names)
@as_json
def enable(automation: str, entity: str | None, as_json: bool) -> None:
    """Enable AUTOMATION, an id or a name. Its metric windows and cooldowns begin empty."""
    _switch(automation, entity, enabled=True, as_json=as_json)


@automations.command()
@about("automation", automation_names)
@as_json
def disable(automation: str, entity: str | None, as_json: bool) -> None:
    """Disable AUTOMATION, an id or a name. Its deliveries from before are still sent."""
    _switch(automation, entity, enabled=False, as_json=as_json)


@automations.command()
@about("automation", automation_names)
@as_json
def revisions(automation: str, entity: str | None, as_json: bool) -> None:
    """List who changed AUTOMATION, an id or a name, and when; newest first."""
    from worker.operations.automations import list_revisions

    with opened() as (_settings, engine):
        rows = list_revisions(engine, automation, entity)
    print_rows(REVISIONS, rows, as_json=as_json)


def _switch(automation: str, entity: str | None, *, enabled: bool, as_json: bool) -> None:
    from worker.operations.automations import set_enabled

    with opened() as (_settings, engine):
        row = set_enabled(engine, automation, entity, enabled=enabled)
    if as_json:
        print_json(row)
        return
    word = f"{'is' if row['changed'] else 'was already'} {'enabled' if enabled else 'disabled'}"
    say(f"{row['entity']}/{row['name']} ({row['id']}) {word}")


@automations.command()
@about("automation", automation_names)
@click.option(
    "--event",
    type=click.File("rb"),
    help="A file with one event, a list of events, or one event on each line; `-`: standard input.",
)
@click.option("--since", help="Instead: read the streams from this time on; a time, or how long ago, such as 1h.")
@click.option("--until", help="With --since: read up to this time; now by default.")
@click.option("--with-state", is_flag=True, help="With --event: start from the stored windows, as if published now.")
@click.option("--today", is_flag=True, help="With --since: judge by what AUTOMATION is now, not by what it was then.")
@click.option("--only", type=click.Choice(OUTCOMES), help="Show only events with this outcome.")
@click.option("--reason", type=click.Choice(REASONS), help="Show only events with this reason.")
@click.option("--event-id", help="Show only events with this id.")
@click.option("--run", help="Show only events about the run with this id.")
@click.option("--collection", help="Show only events about this collection.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True, help="Show at most this many.")
@click.option(
    "--plot", is_flag=True, help="With --run: plot what the conditions compared, by step; of all that is kept."
)
@click.option("--project", help="With --plot: the run's project, if AUTOMATION watches more than one.")
@as_json
def explain(
    *,
    entity: str | None,
    automation: str,
    event: IO[bytes] | None,
    since: str | None,
    until: str | None,
    with_state: bool,
    today: bool,
    only: Outcome | None,
    reason: str | None,
    event_id: str | None,
    run: str | None,
    collection: str | None,
    limit: int,
    plot: bool,
    project: str | None,
    as_json: bool,
) -> None:
    """Show for each event whether AUTOMATION would fire, and why. Nothing is stored or sent.

    With --since it shows what came of the events, newest first, by what AUTOMATION was at the time of each and by what
    was recorded. Exits with 0 if something would fire, with 1 if nothing would, with 2 on bad input.
    """
    if plot:
        if run is None or event is not None:
            raise click.UsageError("--plot needs --run, and takes no --event")
        from worker.operations.automations import RunQuestion

        _plot(automation, entity, RunQuestion(run, project, since, until, today), as_json=as_json)
        return
    if project is not None:
        raise click.UsageError("--project belongs to --plot")
    if (event is None) == (since is None):
        raise click.UsageError("give either --event or --since")
    if until is not None and since is None:
        raise click.UsageError("--until belongs to --since")
    if with_state and event is None:
        raise click.UsageError("--with-state belongs to --event")
    if today and since is None:
        raise click.UsageError("--today belongs to --since")

    from shared.domain.errors import InvalidDefinition
    from worker.commands.explanation_tree import Shown, print_answer, trial_of
    from worker.operations.automations import explain
    from worker.operations.lookup import UnknownName

    shown = Shown(only, reason, event_id, run, collection, limit)
    trial = trial_of(event, since, until, shown, with_state=with_state, today=today)
    with opened() as (settings, engine):
        try:
            answer = explain(settings, engine, automation, entity, trial)
        except UnknownName as exc:
            # Elsewhere this is 1, which says here that nothing would fire.
            raise InvalidDefinition(*exc.errors) from exc
    if as_json:
        print_json(answer)
    else:
        print_answer(automation, answer)
    click.get_current_context().exit(0 if answer.summary.fired else 1)


def _plot(automation: str, entity: str | None, asked: RunQuestion, *, as_json: bool) -> None:
    from worker.commands.series_plot import print_series
    from worker.operations.automations import read_run_series

    with opened() as (settings, engine):
        found = read_run_series(settings, engine, automation, entity, asked)
    if as_json:
        print_json(found)
    else:
        print_series(asked.run, found)
