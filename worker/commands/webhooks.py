"""`celery -A worker webhooks …`: list, show, pause, resume, test one, and change its signing secret.

Declares the commands and their options; each imports what it works with when it runs (`worker.commands` says why).
"""

from __future__ import annotations

import click

from worker.commands.completion import webhook_names
from worker.commands.exchanges import MEMBERS, exchange_members
from worker.commands.output import NOTHING, as_json, opened, operators_group, print_json, print_members, print_rows, say
from worker.commands.subjects import about

LISTED = (
    "entity",
    "name",
    "id",
    "state",
    "lane",
    "pending",
    "due",
    "dead",
    "in_flight",
    "failing_since",
    "disabled_reason",
)
STATES = ("active", "paused", "disabled", "circuit open", "circuit half open")


@operators_group("webhooks")
def webhooks() -> None:
    """Hookline: list, show, pause, resume and test webhooks, and change their signing secrets."""


@webhooks.command("list")
@click.option("--entity", help="Only this entity's.")
@click.option("--state", type=click.Choice(STATES), help="Only in this state.")
@as_json
def list_(entity: str | None, state: str | None, as_json: bool) -> None:
    """List the webhooks and Slack integrations, with their waiting deliveries. Exits with 1 if there are none."""
    from worker.operations.webhooks import list_webhooks

    with opened() as (_settings, engine):
        rows = list_webhooks(engine, entity)
    print_rows(LISTED, [row for row in rows if state in (None, row["state"])], as_json=as_json)


@webhooks.command()
@about("webhook", webhook_names)
@as_json
def show(webhook: str, entity: str | None, as_json: bool) -> None:
    """Show WEBHOOK, an id or a name: its state and why, its policy, and the automations that use it."""
    from worker.operations.webhooks import describe_webhook

    with opened() as (settings, engine):
        row = describe_webhook(settings, engine, webhook, entity)
    if as_json:
        print_json(row)
    else:
        print_members(row)


@webhooks.command()
@about("webhook", webhook_names)
@as_json
def pause(webhook: str, entity: str | None, as_json: bool) -> None:
    """Pause WEBHOOK, an id or a name: its deliveries wait. Requests in flight are finished."""
    from worker.operations.webhooks import pause

    with opened() as (_settings, engine):
        row = pause(engine, webhook, entity)
    _say(row, "paused", as_json=as_json)


@webhooks.command()
@about("webhook", webhook_names)
@as_json
def resume(webhook: str, entity: str | None, as_json: bool) -> None:
    """Resume WEBHOOK, an id or a name, if it was paused or disabled, or its circuit was open."""
    from worker.operations.webhooks import resume

    with opened() as (_settings, engine):
        row = resume(engine, webhook, entity)
    _say(row, "active", as_json=as_json)


def _say(row: dict[str, object], word: str, *, as_json: bool) -> None:
    if as_json:
        print_json(row)
        return
    waiting = f"; {row['pending']} deliveries wait" if row["pending"] else ""
    word = f"{'is now' if row['changed'] else 'was already'} {word}"
    say(f"{row['entity']}/{row['name']} ({row['id']}) {word}{waiting}")


@webhooks.command()
@about("webhook", webhook_names)
@as_json
def test(webhook: str, entity: str | None, as_json: bool) -> None:
    """Send one test request with sample values to WEBHOOK, an id or a name, from this machine, and show the answer.

    It may be paused or disabled. Nothing is stored. Exits with 0 if the endpoint accepted the request, else with 1.
    """
    from worker.operations.webhook_trial import send_test

    with opened() as (settings, engine):
        row = send_test(settings, engine, webhook, entity)
    if as_json:
        print_json(row)
    else:
        known = {member: value for member, value in row.items() if member not in MEMBERS}
        print_members(known | exchange_members(row))
    click.get_current_context().exit(0 if row["outcome"] == "2xx" else NOTHING)


@webhooks.command("rotate-signing")
@about("webhook", webhook_names, then="secret")
@click.option("--keep", default="7d", show_default=True, help="How long the present secret signs as well, such as 24h.")
@as_json
def rotate_signing(webhook: str, secret: str, keep: str, entity: str | None, as_json: bool) -> None:
    """Sign requests to WEBHOOK, an id or a name, with SECRET, the name of a secret of its entity.

    Until the time is over, requests have two signatures: the receiver may check either, and changes in between.
    """
    from shared.domain.durations import parse_duration
    from shared.domain.errors import InvalidDefinition
    from worker.operations.signing_rotation import rotate_signing

    with opened() as (settings, engine):
        try:
            kept = parse_duration(keep)
        except InvalidDefinition as exc:
            raise exc.under("keep") from None
        row = rotate_signing(settings, engine, webhook, secret, kept, entity)
    if as_json:
        print_json(row)
        return
    say(
        f"{row['entity']}/{row['name']} ({row['id']}) signs with {row['signing_secret']}, and until "
        f"{row['former_signing_until']:%Y-%m-%d %H:%M:%S} UTC with {row['former_signing_secret']} as well"
    )
