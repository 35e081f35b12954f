"""The `hookline` command: starts the service or one of its parts, and speaks to a running one.

Each command parses, calls one function and prints. Standard output carries results only; logs, progress and errors go
to standard error. Ends with 0, with 1 when the API refused the input, or with 2 when it could not be tried.

Each imports what it needs when it runs: `--help` and shell completion need none of it, and it takes half a second.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dispatcher.client.messages import complain
from shared.domain.errors import HooklineError
from shared.domain.events.limits import MAX_BATCH_EVENTS
from shared.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.settings import Settings

INPUT = click.Path(exists=True, dir_okay=False, allow_dash=True)


class _Commands(click.Group):
    """Turns Hookline's own errors into one line each and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HooklineError as exc:
            from dispatcher.client.api_client import Refused

            if not isinstance(exc, Refused):
                complain(exc)
                ctx.exit(2)
            for fault in exc.errors or (exc,):
                complain(fault)
            ctx.exit(1)


def _configured(process: str, **flags: object) -> Settings:
    """The settings, of which flags that are given win over the environment, and logging as they say."""
    from shared.observability.logs import configure_logging
    from shared.settings import load_settings

    settings = load_settings(**{name: value for name, value in flags.items() if value is not None})
    configure_logging(settings, process)
    return settings


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hookline")
def main() -> None:
    """Match events on models and deliver webhooks. Settings: HOOKLINE_*, see docs/settings.md."""


@main.command()
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Instead of HOOKLINE_DATA_DIR.")
@click.option("--host", help="Instead of HOOKLINE_HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="Instead of HOOKLINE_PORT; 0 takes a free port.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=min(2, os.cpu_count() or 1),
    show_default=True,
    help="Worker processes.",
)
def up(data_dir: Path | None, host: str | None, port: int | None, workers: int) -> None:
    """Run the whole service: API, dispatcher and workers, with Valkey and SQLite unless others are set."""
    from dispatcher.up.composition import run_up

    settings = _configured("up", data_dir=data_dir, host=host, port=port)
    if not run_up(settings, workers=workers, say=click.echo):
        sys.exit(1)


@main.command()
@click.option("--host", help="Instead of HOOKLINE_HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="Instead of HOOKLINE_PORT.")
@click.option("--fd", type=int, hidden=True, help="An inherited listening socket.")
def api(host: str | None, port: int | None, fd: int | None) -> None:
    """Run only the API."""
    from dispatcher.server.server import serve
    from dispatcher.up.composition import check_keys, listen
    from shared.observability.logs import get_logger
    from shared.vault import Vault

    settings = _configured("api", host=host, port=port)
    listener = socket.socket(fileno=fd) if fd is not None else listen(settings.host, settings.port)
    check_keys(settings, Vault.open(settings))  # without its keys it could not serve, and should say so in one line
    get_logger("hookline.api").info("api.listening", address=listener.getsockname())
    # uvicorn raises the signal again once it has drained: that is a clean end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    serve(settings, listener)


@main.command()
def dispatcher() -> None:
    """Run only the dispatcher, which wakes the workers. Run two for availability."""
    from dispatcher.pump import pump

    pump.run(_configured("dispatcher"))


@main.command()
@click.option(
    "--adopt",
    is_flag=True,
    help="Take database, data directory and keys as belonging together, though they did not before.",
)
@click.option(
    "--require-admin-key",
    is_flag=True,
    help="Take HOOKLINE_ADMIN_API_KEY at the first start, and refuse without it, instead of printing a new key.",
)
def init(adopt: bool, require_admin_key: bool) -> None:
    """Create or migrate the schema, and the first admin key."""
    from dispatcher.up.composition import prepare

    prepare(_configured("init"), say=click.echo, adopt=adopt, require_admin_key=require_admin_key, tell_schema=True)


@main.command("copy-database")
@click.argument("source")
def copy_database(source: str) -> None:
    """Copy the database at the URL SOURCE into that of HOOKLINE_DATABASE_URL, which must be empty.

    For moving from SQLite to PostgreSQL; stop Hookline first. Secrets stay encrypted with the same keys.
    """
    from dispatcher.up.composition import copy_database
    from shared.settings import load_settings

    for table, rows in copy_database(load_settings(database_url=source), load_settings()):
        click.echo(f"{table}: {rows}")


@main.command()
@click.argument("file", type=INPUT)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Events per second; unset: no limit.")
@click.option("--batch", "max_events", type=click.IntRange(1, MAX_BATCH_EVENTS), default=100, show_default=True)
def publish(file: str, rate: float | None, max_events: int) -> None:
    """Publish the events in FILE, one JSON object on each line; `-` is standard input."""
    from dispatcher.client.commands import publish_file

    publish_file(file, rate=rate, max_events=max_events)


def _definitions(command: Callable[..., None]) -> Callable[..., None]:
    option = click.option("-f", "--file", type=INPUT, required=True, help="YAML; `-` is standard input.")
    return option(command)


_every = click.option("--all", "every", is_flag=True, help="Also show what does not change.")


@main.command()
@_definitions
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@_every
def apply(file: str, dry_run: bool, every: bool) -> None:
    """Apply the definitions in FILE: those of each entity all together, or nothing."""
    from dispatcher.client.commands import apply_file

    apply_file(file, dry_run=dry_run, every=every)


@main.command()
@_definitions
@_every
@click.option("--exit-code", is_flag=True, help="End with 3 if anything would change.")
def diff(file: str, every: bool, exit_code: bool) -> None:
    """Show what `apply` would change."""
    from dispatcher.client.commands import apply_file

    if apply_file(file, dry_run=True, every=every) and exit_code:
        sys.exit(3)


@main.command()
@click.option("--entity", help="Only this entity; unset: all entities that the key can read.")
@click.option("--projects", is_flag=True, help="Also projects and collections, those too that events have named.")
@click.option("--entities", is_flag=True, help="First the entities themselves.")
def export(entity: str | None, projects: bool, entities: bool) -> None:
    """Print webhooks and automations as YAML, in the form that `apply` takes."""
    from dispatcher.client.commands import export_definitions

    export_definitions(entity, projects=projects, entities=entities)


class _OfTheClient(click.Command):
    """Passes on its arguments as they are; click would take a `--` among them for its own."""

    allow_extra_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["arguments"] = tuple(args)
        return []


def _of_the_client(name: str, summary: str) -> click.Command:
    """A command of the distribution hookline-client, which takes its own arguments and may not be installed."""

    def run(arguments: tuple[str, ...]) -> None:
        try:
            from hookline.cli import main as client
        except ImportError:
            complain(f"`hookline {name}` is part of hookline-client, which is not installed")
            sys.exit(2)
        sys.exit(client([name, *arguments], program="hookline"))

    return _OfTheClient(name, callback=run, help=summary, add_help_option=False)


for _name, _summary in {
    "follow": "Publish the runs in wandb and TensorBoard files, as they are written.",
    "outbox": "Relay the events that a backend wrote in its own transactions.",
    "run": "Run a command as a run: how it ends becomes the run's state.",
    "spool": "Events that training processes left behind: list them, or send them.",
}.items():
    main.add_command(_of_the_client(_name, _summary))


@main.command()
@click.argument("name", default="manifest")
def schema(name: str) -> None:
    """Print the JSON Schema NAME, for editors and CI: manifest (the YAML of apply), automation, webhook, slack,
    source, or an event type."""
    from dispatcher.control.definition_schemas import SCHEMAS, schema_text
    from shared.domain.events.decoding import json_schema
    from shared.domain.events.types import EventType

    if name not in SCHEMAS and name not in EventType.__members__:
        raise click.UsageError(f"there is no schema {name!r}; there are {', '.join((*SCHEMAS, *EventType))}")
    click.echo(schema_text(SCHEMAS[name]() if name in SCHEMAS else json_schema(EventType(name))))


@main.group()
def sources() -> None:
    """Webhooks in: services whose requests become events. They are defined in the YAML of `apply`."""


_entity = click.option("--entity", help="The source's entity; unset: the only one that the key can read.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the API answers.")


@sources.command("list")
@_entity
@_as_json
def list_sources(entity: str | None, as_json: bool) -> None:
    """List the sources, with the URL that each service sends to."""
    from dispatcher.client.source_commands import list_sources

    list_sources(entity, as_json=as_json)


@sources.command("history")
@click.argument("name")
@_entity
@click.option("-n", "--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="Requests at most.")
@_as_json
def show_history(name: str, entity: str | None, limit: int, as_json: bool) -> None:
    """Show the last requests to the source NAME, and why one became no event."""
    from dispatcher.client.source_commands import show_history

    show_history(name, entity, limit=limit, as_json=as_json)


@sources.command("test")
@click.argument("name")
@click.argument("file", type=INPUT, default="-")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header of the request.")
@_entity
@_as_json
def try_source(name: str, file: str, headers: tuple[str, ...], entity: str | None, as_json: bool) -> None:
    """Show what would become of the body in FILE, or on standard input, as a request to the source NAME.

    Nothing is published, and no proof is needed. Ends with 3 when it would become no event.
    """
    from dispatcher.client.source_commands import try_source

    if not try_source(name, entity, file=file, headers=headers, as_json=as_json):
        sys.exit(3)


@main.group()
def templates() -> None:
    """Requests of well-known services to start from: GitHub, Slack, Teams, PagerDuty and others."""


@templates.command("list")
def list_templates() -> None:
    """List the payload templates."""
    from dispatcher.client.template_texts import template_list
    from dispatcher.control.payload_templates import views

    click.echo(template_list(views.list_templates().model_dump()["items"]), nl=False)


@templates.command("show")
@click.argument("name")
@click.option("--event", default="ADD_ARTIFACT_ALIAS", show_default=True, help="The type of the automation's events.")
def show_template(name: str, event: str) -> None:
    """Print the payload template NAME as a YAML document for `hookline apply`."""
    from dispatcher.client.template_texts import template_document
    from dispatcher.control.errors import NotFound
    from dispatcher.control.payload_templates import views
    from shared.domain.errors import InvalidDefinition

    try:
        detail = views.show_template(name, event)
    except NotFound as exc:
        raise click.UsageError(str(exc)) from None
    except InvalidDefinition as exc:
        raise click.BadParameter(exc.errors[0].msg, param_hint="--event") from None
    click.echo(template_document(detail.model_dump(mode="json")), nl=False)


if __name__ == "__main__":
    main()
