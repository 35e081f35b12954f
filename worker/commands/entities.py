"""`celery -A worker entities quotas`: how much each entity may have, and has.

Declares the command; it imports what it works with when it runs (`worker.commands` says why).
"""

from __future__ import annotations

import click

from worker.commands.output import as_json, opened, operators_group, print_rows

LISTED = ("entity", "quota", "used", "limit", "own")


@operators_group("entities")
def entities() -> None:
    """Hookline: show what entities may have, and have."""


@entities.command()
@click.option("--entity", help="Only this entity.")
@click.option("--own", is_flag=True, help="Only limits that were set for an entity, and not the defaults.")
@as_json
def quotas(entity: str | None, own: bool, as_json: bool) -> None:
    """List the quotas of entities: use and limit. Exits with 1 if there are none.

    `PATCH /v1/entities/{entity}` and `hookline apply` set them.
    """
    from worker.operations.entities import list_quotas

    with opened() as (_settings, engine):
        rows = list_quotas(engine, entity)
    print_rows(LISTED, [row for row in rows if row["own"] or not own], as_json=as_json)
