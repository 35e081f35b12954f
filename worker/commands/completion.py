"""What a shell completes after the operators' commands: names out of the storage. Must never complain there."""

from __future__ import annotations

from collections.abc import Iterable

import click

from worker.commands.output import opened


def webhook_names(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The webhooks and Slack integrations whose name begins so, of the entity that is given if any."""
    try:
        from worker.operations.webhooks import list_webhooks

        with opened() as (_settings, engine):
            rows = list_webhooks(engine, _entity(ctx, "webhook"))
    except Exception:  # whatever is wrong: the command itself will say it
        return []
    return _beginning(incomplete, (row["name"] for row in rows))


def automation_names(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The automations whose name begins so, of the entity that is given if any."""
    try:
        from worker.operations.automations import list_automations

        with opened() as (_settings, engine):
            rows = list_automations(engine, _entity(ctx, "automation"))
    except Exception:  # as above
        return []
    return _beginning(incomplete, (row["name"] for row in rows))


def _entity(ctx: click.Context, subject: str) -> str | None:
    """What stands before the name, or after `--entity`."""
    before: tuple[str, ...] = ctx.params.get(subject) or ()
    return before[0] if before else ctx.params.get("entity")


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})
