"""`celery -A worker streams lag`: how far evaluation is behind, by partition.

Declares the command; it imports what it works with when it runs (`worker.commands` says why).
"""

from __future__ import annotations

import click

from worker.commands.output import NOTHING, as_json, opened, operators_group, print_json, print_table, say

LISTED = ("partition", "entries", "seconds", "offset", "last_entry", "evaluated", "length")


@operators_group("streams")
def streams() -> None:
    """Hookline: show how far evaluation is behind the event streams."""


@streams.command()
@click.option("--max-seconds", type=click.FloatRange(0), help="Exit with 1 if a partition is further behind.")
@as_json
def lag(max_seconds: float | None, as_json: bool) -> None:
    """Show for each partition how many entries are not evaluated, and the age of the oldest."""
    from worker.operations.stream_lag import list_stream_lags

    with opened() as (settings, engine):
        answer = list_stream_lags(settings, engine)
    if as_json:
        print_json(answer)
    else:
        total = answer["total"]
        print_table(LISTED, answer["partitions"])
        say(f"total: {total['entries']} entries wait, the oldest for {total['seconds']} s")
    behind = max_seconds is not None and answer["total"]["seconds"] > max_seconds
    click.get_current_context().exit(NOTHING if behind else 0)
