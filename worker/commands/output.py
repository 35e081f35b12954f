"""What the operators' commands share: how they open the storage, print, and say what is wrong.

Imports nothing of Hookline and no library but click at import time; see `worker.commands` for why.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType
    from sqlalchemy import Engine

    from shared.settings import Settings

UNUSABLE = 2
PLAIN_WIDTH = 200

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


class OperatorsGroup(click.Group):
    """Turns Hookline's own refusals, and storage that can't be used, into one line each and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        from redis.exceptions import RedisError
        from sqlalchemy.exc import SQLAlchemyError

        from shared.domain.errors import HooklineError, InvalidDefinition

        try:
            return super().invoke(ctx)
        except InvalidDefinition as exc:
            faults: tuple[object, ...] = exc.errors
        except HooklineError as exc:
            faults = (exc,)
        except SQLAlchemyError as exc:
            faults = (f"the database can't be used: {getattr(exc, 'orig', None) or exc}",)
        except RedisError as exc:
            faults = (f"the event streams can't be read: {exc}",)
        for fault in faults:
            complain(fault)
        return ctx.exit(UNUSABLE)


def operators_group(name: str) -> Callable[[Callable[..., Any]], click.Group]:
    """Makes a function the group of this name; its docstring is the group's help."""
    settings = {"help_option_names": ["-h", "--help"]}
    return click.group(name, cls=OperatorsGroup, context_settings=settings)


def complain(fault: object) -> None:
    """One line on standard error."""
    click.echo(f"hookline: {' '.join(str(fault).split())}", err=True)


@contextmanager
def opened() -> Iterator[tuple[Settings, Engine]]:
    """The settings of the environment, and an engine on their database."""
    from shared.settings import load_settings
    from shared.storage.engine import open_engine

    settings = load_settings()
    engine = open_engine(settings)
    try:
        yield settings, engine
    finally:
        engine.dispose()


def print_json(value: object) -> None:
    """A value as indented JSON."""
    import orjson

    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode())


def print_table(members: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Rows as a table with these members as its columns."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*members)
    for row in rows:
        table.add_row(*(Text("" if row[member] is None else str(row[member])) for member in members))
    print_rich(table)


def print_rich(*parts: RenderableType) -> None:
    """Text in colour on a terminal, plain elsewhere and where NO_COLOR asks for it.

    As wide as the terminal; where there is none, of a fixed width.
    """
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)
    for part in parts:
        console.print(part)
