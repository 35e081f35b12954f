"""The `hookline` command: starts the service or one of its parts, and speaks to a running one.

Each command parses, calls one function and prints. Standard output carries results only; logs, progress and errors go
to standard error. Ends with 0, with 1 when the API refused the input, or with 2 when it could not be tried.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dispatcher.client.api_client import Client, Refused
from dispatcher.client.input_files import Batch, read_batches, read_documents
from dispatcher.client.yaml_documents import write_documents
from shared.domain.errors import FieldError, HooklineError
from shared.domain.events.decoding import MAX_BATCH_EVENTS
from shared.domain.visible_text import visible_line
from shared.observability.logs import configure_logging, get_logger
from shared.settings import load_settings
from shared.vault import Vault
from shared.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

BATCHES_PER_SECOND = 10  # a slow --rate is spread evenly, not sent in bursts
PLAIN_WIDTH = 200
INPUT = click.Path(exists=True, dir_okay=False, allow_dash=True)
COLOURS = {"created": "green", "updated": "yellow", "deleted": "red", "unchanged": "dim"}


class _Commands(click.Group):
    """Turns Hookline's own errors into one line each and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Refused as exc:
            for fault in exc.errors or (exc,):
                _complain(fault)
            ctx.exit(1)
        except HooklineError as exc:
            _complain(exc)
            ctx.exit(2)


def _complain(fault: object) -> None:
    click.echo(visible_line(f"hookline: {' '.join(str(fault).split())}"), err=True)


def _overrides(**flags: object) -> dict[str, object]:
    """The flags that were given; they win over the environment."""
    return {name: value for name, value in flags.items() if value is not None}


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
    # Imported here because the commands that only speak HTTP need none of it.
    from dispatcher.up.composition import run_up

    settings = load_settings(**_overrides(data_dir=data_dir, host=host, port=port))
    configure_logging(settings, "up")
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

    settings = load_settings(**_overrides(host=host, port=port))
    configure_logging(settings, "api")
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

    settings = load_settings()
    configure_logging(settings, "dispatcher")
    pump.run(settings)


@main.command()
@click.option(
    "--adopt",
    is_flag=True,
    help="Take database, data directory and keys as belonging together, though they did not before.",
)
def init(adopt: bool) -> None:
    """Create or migrate the schema, and the first admin key."""
    from dispatcher.up.composition import prepare

    settings = load_settings()
    configure_logging(settings, "init")
    if not prepare(settings, say=click.echo, adopt=adopt):
        click.echo("already initialised")


@main.command("copy-database")
@click.argument("source")
def copy_database(source: str) -> None:
    """Copy the database at the URL SOURCE into that of HOOKLINE_DATABASE_URL, which must be empty.

    For moving from SQLite to PostgreSQL; stop Hookline first. Secrets stay encrypted with the same keys.
    """
    from dispatcher.up.composition import copy_database

    for table, rows in copy_database(load_settings(database_url=source), load_settings()):
        click.echo(f"{table}: {rows}")


@main.command()
@click.argument("file", type=INPUT)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Events per second; unset: no limit.")
@click.option("--batch", "max_events", type=click.IntRange(1, MAX_BATCH_EVENTS), default=100, show_default=True)
def publish(file: str, rate: float | None, max_events: int) -> None:
    """Publish the events in FILE, one JSON object on each line; `-` is standard input."""
    if rate is not None:
        max_events = max(1, min(max_events, int(rate / BATCHES_PER_SECOND)))
    published = 0
    with (
        click.open_file(file, "rb") as lines,
        Client(load_settings(), on_retry=_tell_retry) as client,
        _progress() as progress,
    ):
        task = progress.add_task("publishing", total=_count_events(lines), speed=0.0)
        begin = time.monotonic()
        try:
            for batch in read_batches(file, lines, max_events=max_events):
                if rate is not None:
                    time.sleep(max(0.0, begin + published / rate - time.monotonic()))
                published += _publish_batch(client, batch, file)
                progress.update(task, completed=published, speed=published / (time.monotonic() - begin))
        finally:
            progress.stop()
            click.echo(f"published {published} event{'' if published == 1 else 's'}")


def _publish_batch(client: Client, batch: Batch, name: str) -> int:
    try:
        return client.publish(batch.events)
    except Refused as exc:
        first, last = batch.line_numbers[0], batch.line_numbers[-1]
        _complain(f"{name}: lines {first} to {last} are refused together, and what follows is not sent")
        raise Refused(str(exc), tuple(_at_line(error, batch, name) for error in exc.errors)) from exc


def _at_line(error: FieldError, batch: Batch, name: str) -> FieldError:
    """The fault of an event in a batch, told by the event's line in the file."""
    position = next((n for n, part in enumerate(error.loc) if isinstance(part, int)), None)
    if position is None:
        return error
    number = batch.line_numbers[int(error.loc[position])]
    return FieldError((), f"{name}:{number}: {FieldError(error.loc[position + 1 :], error.msg)}")


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:,.0f} events/s"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _count_events(lines: IO[bytes]) -> int | None:
    """How many events a file holds; unknown for a pipe."""
    if not lines.seekable():
        return None
    begin = lines.tell()
    count = sum(1 for line in lines if line.strip())
    lines.seek(begin)
    return count


def _tell_retry(reason: str, seconds: float) -> None:
    click.echo(visible_line(f"hookline: {reason}; trying again in {seconds:.1f} s"), err=True)


def _definitions(command: Callable[..., None]) -> Callable[..., None]:
    option = click.option("-f", "--file", type=INPUT, required=True, help="YAML; `-` is standard input.")
    return option(command)


@main.command()
@_definitions
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
def apply(file: str, dry_run: bool) -> None:
    """Apply the webhooks and automations in FILE: all of them, or nothing."""
    _apply(file, dry_run=dry_run)


@main.command()
@_definitions
def diff(file: str) -> None:
    """Show what `apply` would change."""
    _apply(file, dry_run=True)


def _apply(file: str, *, dry_run: bool) -> None:
    """All documents are tried before the first is applied, so that a fault in the last changes nothing."""
    with click.open_file(file, "rb") as stream:
        documents = read_documents(file, stream)
    with Client(load_settings()) as client:
        if dry_run or len(documents) > 1:
            plans = [client.apply(document.entity, document.json, dry_run=True) for document in documents]
        for number, document in enumerate(documents):
            changes = plans[number] if dry_run else client.apply(document.entity, document.json, dry_run=False)
            _print_changes(document.entity, changes)


def _print_changes(entity: str, changes: list[dict[str, Any]]) -> None:
    table = Table("kind", "name", "change")
    for change in changes:
        verb = str(change["change"])
        members = ", ".join(change.get("detail") or ())
        what = f"{verb}: {members}" if members else verb
        kind, name = visible_line(change["kind"]), visible_line(change["name"])
        table.add_row(Text(kind), Text(name), Text(visible_line(what), style=COLOURS.get(verb, "")))
    click.echo(visible_line(f"entity {entity}"))
    Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table)


@main.command()
@click.option("--entity", help="Only this entity; unset: all entities that the key can read.")
def export(entity: str | None) -> None:
    """Print webhooks and automations as YAML, in the form that `apply` takes."""
    with Client(load_settings()) as client:
        names = [entity] if entity is not None else list(client.entities())
        documents = [{"entity": name, **client.export(name)} for name in names]
    click.echo(write_documents(documents), nl=False)


if __name__ == "__main__":
    main()
