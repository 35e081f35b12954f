"""What the operators' commands share: how they open the storage, print, and say what is wrong.

Imports nothing of Hookline and no library but click at import time; see `worker.commands` for why.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text
    from sqlalchemy import Engine

    from shared.settings import Settings

NOTHING = 1
UNUSABLE = 2
WHOLE = ("id", "check", "created_at", "started_at", "partition", "state", "status", "lane")
COLOURS = {
    "active": "green",
    "delivered": "green",
    "2xx": "green",
    "paused": "yellow",
    "pending": "yellow",
    "circuit open": "yellow",
    "circuit half open": "yellow",
    "slow": "yellow",
    "skipped": "dim",
    "disabled": "red",
    "ok": "green",
    "failing": "red",
    "unknown": "yellow",
    "dead": "red",
    "refused": "red",
}
PLAIN_WIDTH = 200

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


class OperatorsGroup(click.Group):
    """Turns Hookline's own refusals, and storage that can't be used, into one line each and exit status 2.

    A name that nothing has is 1, as an empty list.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        from redis.exceptions import RedisError
        from sqlalchemy.exc import SQLAlchemyError

        from shared.domain.errors import HooklineError, InvalidDefinition
        from worker.operations.lookup import UnknownName

        status = UNUSABLE
        try:
            return super().invoke(ctx)
        except UnknownName as exc:
            faults: tuple[object, ...] = exc.errors
            status = NOTHING
        except InvalidDefinition as exc:
            faults = exc.errors
        except HooklineError as exc:
            faults = (exc,)
        except SQLAlchemyError as exc:
            faults = (f"the database can't be used: {getattr(exc, 'orig', None) or exc}",)
        except RedisError as exc:
            faults = (f"the event streams can't be read: {exc}",)
        for fault in faults:
            complain(fault)
        return ctx.exit(status)


def operators_group(name: str) -> Callable[[Callable[..., Any]], click.Group]:
    """Makes a function the group of this name; its docstring is the group's help."""
    settings = {"help_option_names": ["-h", "--help"]}
    return click.group(name, cls=OperatorsGroup, context_settings=settings)


def complain(fault: object) -> None:
    """One line on standard error."""
    say(f"hookline: {' '.join(str(fault).split())}", err=True)


def say(line: str, *, err: bool = False) -> None:
    """One line, in which names and answers of others can't give orders to the terminal."""
    from shared.domain.visible_text import visible_line

    click.echo(visible_line(line), err=err)


def shown(text: str, style: str = "") -> Text:
    """Text for a table or tree, in which names and answers of others can't give orders to the terminal."""
    from rich.text import Text

    from shared.domain.visible_text import visible

    return Text(visible(text), style=style)


@contextmanager
def opened() -> Iterator[tuple[Settings, Engine]]:
    """The settings of the environment, and an engine on their database, which announces edits to workers."""
    from shared.messaging.edits import announce_edits
    from shared.settings import load_settings
    from shared.storage.database.engine import open_engine

    settings = load_settings()
    engine = open_engine(settings)
    announcing = announce_edits(engine, settings)
    try:
        yield settings, engine
    finally:
        announcing.close()
        engine.dispose()


def print_json(value: object) -> None:
    """A value as indented JSON."""
    from shared.domain.json_text import write_indented_json
    from shared.domain.visible_text import visible_json

    click.echo(visible_json(write_indented_json(value)))


def print_rows(members: Sequence[str], rows: Sequence[Mapping[str, object]], *, as_json: bool) -> None:
    """All of the rows as JSON, or these members of them as a table; without rows the command ends with `NOTHING`."""
    if as_json:
        print_json(rows)
    elif rows:
        print_table(members, rows)
    else:
        complain("nothing found")
    if not rows:
        click.get_current_context().exit(NOTHING)


def print_table(members: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Rows as a table with these members as its columns; ids stay whole, so that they can be copied."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for member in members:
        table.add_column(member, no_wrap=member in WHOLE, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[member]) for member in members))
    print_rich(table)


def print_members(row: Mapping[str, object]) -> None:
    """One row, a member on each line; those without a value are left out."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for member, value in row.items():
        if value not in (None, [], ()):
            table.add_row(shown(member), _cell(value))
    print_rich(table)


def _cell(value: object) -> Text:
    from datetime import datetime

    if isinstance(value, datetime):
        return shown(f"{value:%Y-%m-%d %H:%M:%S}Z")
    if isinstance(value, bool):
        return shown("yes" if value else "no")
    if isinstance(value, dict):
        return shown(json.dumps(value, ensure_ascii=False, default=str))
    if isinstance(value, list | tuple):
        return shown(", ".join(map(str, value)))
    text = "" if value is None else str(value)
    return shown(text, COLOURS.get(text, ""))


def print_rich(*parts: RenderableType) -> None:
    """Text in colour on a terminal, plain elsewhere and where NO_COLOR asks for it.

    As wide as the terminal; where there is none, of a fixed width.
    """
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)
    for part in parts:
        console.print(part)
