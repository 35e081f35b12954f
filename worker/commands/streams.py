"""`celery -A worker streams …`: how far evaluation is behind, by partition, and what the streams take of memory.

Declares the command; it imports what it works with when it runs (`worker.commands` says why).
"""

from __future__ import annotations

import click

from worker.commands.output import NOTHING, as_json, opened, operators_group, print_json, print_table, say

HELD = ("partition", "length", "bytes", "oldest", "newest")
LISTED = ("partition", "entries", "seconds", "offset", "last_entry", "evaluated", "length")


@operators_group("streams")
def streams() -> None:
    """Hookline: show how far evaluation is behind the event streams, and their memory."""


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


@streams.command()
@click.option("--max-fill", type=click.FloatRange(0), help="Exit with 1 if more of the bound is used, such as 0.8.")
@as_json
def memory(max_fill: float | None, as_json: bool) -> None:
    """Show the memory of the streams' server and its bound, above which events are refused, and what each holds."""
    from shared.settings import load_settings
    from worker.operations.stream_memory import read_stream_memory

    answer = read_stream_memory(load_settings())
    total = answer["total"]
    if as_json:
        print_json(answer)
    else:
        print_table(HELD, answer["partitions"])
        bound = f"{total['fill']:.1%} of {_mebibytes(total['bound_bytes'])}" if total["bound_bytes"] else "no bound"
        say(f"used: {_mebibytes(total['used_bytes'])} ({bound})")
        say(f"streams: {total['length']} entries, {_mebibytes(total['streams_bytes'])}")
        say(f"other: {_mebibytes(total['other_bytes'])}")
    above = max_fill is not None and total["fill"] > max_fill
    click.get_current_context().exit(NOTHING if above else 0)


def _mebibytes(size_bytes: int | None) -> str:
    return "unknown" if size_bytes is None else f"{size_bytes / (1 << 20):.1f} MiB"
