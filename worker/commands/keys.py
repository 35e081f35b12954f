"""`celery -A worker keys …`: which API keys there are, and which end soon.

Declares the commands and their options; each imports what it works with when it runs (`worker.commands` says why).
"""

from __future__ import annotations

import click

from worker.commands.output import as_json, opened, operators_group, print_rows

LISTED = ("id", "name", "user", "state", "created_at", "last_used_at", "expires_at")


@operators_group("keys")
def keys() -> None:
    """Hookline: list API keys."""


@keys.command("list")
@click.option("--ends-within", metavar="DURATION", help="Only keys that end in this time or have ended, such as 14d.")
@as_json
def list_(*, ends_within: str | None, as_json: bool) -> None:
    """List API keys without their texts. Exits with 1 if there is none."""
    from shared.domain.durations import parse_duration
    from shared.domain.errors import InvalidDefinition
    from worker.operations.keys import list_keys

    with opened() as (_settings, engine):
        try:
            within = None if ends_within is None else parse_duration(ends_within)
        except InvalidDefinition as exc:
            raise exc.under("ends_within") from None
        rows = list_keys(engine, within)
    print_rows(LISTED, rows, as_json=as_json)
