"""The commands that speak to a running API: they read files, send, and print what came of it."""

from __future__ import annotations

import sys
import time
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dispatcher.client.api_client import Client, Refused
from dispatcher.client.input_files import Batch, read_batches, read_documents
from dispatcher.client.messages import complain
from dispatcher.client.yaml_documents import write_documents
from shared.domain.errors import FieldError
from shared.domain.visible_text import visible_line
from shared.settings import load_settings

BATCHES_PER_SECOND = 10  # a slow rate is spread evenly, not sent in bursts
PLAIN_WIDTH = 200
COLOURS = {"created": "green", "updated": "yellow", "deleted": "red", "unchanged": "dim"}


def publish_file(file: str, *, rate: float | None, max_events: int) -> None:
    """Publish the events of a file, one JSON object on each line; `-` is standard input.

    Args:
        file: its path.
        rate: events per second; None is no limit.
        max_events: the most of a request.

    Raises:
        Refused: when the API takes some of them not; those before are published.
        HooklineError: when the file can't be read or the API can't be reached.
    """
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
        complain(f"{name}: lines {first} to {last} are refused together, and what follows is not sent")
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


def apply_file(file: str, *, dry_run: bool) -> None:
    """Apply the documents of a file, or print what would change. Raises as `publish_file`.

    All documents are tried before the first is applied, so that a fault in the last changes nothing.
    """
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


def export_definitions(entity: str | None) -> None:
    """Print webhooks and automations as YAML, of all entities that the key can read if none is named."""
    with Client(load_settings()) as client:
        names = [entity] if entity is not None else list(client.entities())
        documents = [{"entity": name, **client.export(name)} for name in names]
    click.echo(write_documents(documents), nl=False)
