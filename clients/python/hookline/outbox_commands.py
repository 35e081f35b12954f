"""`hookline-agent outbox`: relay a backend's outbox, and look at what is parked."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hookline.client import Client
from hookline.errors import HooklineError, InvalidConfiguration, Refused, Unreachable

if TYPE_CHECKING:
    import argparse

    import sqlalchemy as sa

    from hookline.relay import Rows

_TIMEOUT_SECONDS = 10.0


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `outbox` and what is below it."""
    outbox = commands.add_parser("outbox", help="relay the events that a backend wrote in its own transactions")
    what = outbox.add_subparsers(required=True, metavar="COMMAND")
    for name, command, summary in (
        ("relay", relay, "send events in order, for as long as it runs; several may run, one works"),
        ("status", status, "how many events wait, and which are parked, with the reason"),
        ("retry", retry, "have parked events wait again"),
    ):
        parser = what.add_parser(name, help=summary)
        parser.add_argument("--database-url", help="SQLAlchemy's URL of the backend's database; or HOOKLINE_OUTBOX_URL")
        parser.add_argument("--table", default="hookline_outbox", help="the outbox's table (default: %(default)s)")
        parser.add_argument("--schema", help="the table's schema")
        if name == "relay":
            parser.add_argument("--once", action="store_true", help="end when nothing waits any more")
            parser.add_argument(
                "--every", type=float, default=0.5, metavar="SECONDS", help="how often to look (%(default)s)"
            )
        parser.set_defaults(command=command)


def relay(arguments: argparse.Namespace) -> int:
    """Relay until SIGTERM, or with `--once` until nothing waits; 1 if the rest was refused or Hookline was away."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with _engine(arguments) as engine, Client(timeout_seconds=_TIMEOUT_SECONDS) as client:
        from hookline.relay import Relay

        one = Relay(
            engine,
            client,
            name=arguments.table,
            schema=arguments.schema,
            every_seconds=arguments.every,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: one.stop())
        if not arguments.once:
            print("relaying", flush=True)
            one.run()
            return 0
        try:
            print(f"{one.drain()} events were sent")
        except (Unreachable, Refused, TimeoutError) as exc:
            print(f"hookline: {exc}; {one.rows.waiting()} events wait", file=sys.stderr)
            return 1
        return int(bool(one.rows.parked()))


def status(arguments: argparse.Namespace) -> int:
    """Print what waits and what is parked; 1 if anything is parked."""
    with _rows(arguments) as rows:
        parked = rows.parked()
        print(f"{rows.waiting()} events wait, {len(parked)} are parked")
    for number, reason in parked:
        print(f"{number}: {reason}")
    return int(bool(parked))


def retry(arguments: argparse.Namespace) -> int:
    """Have parked events wait again."""
    with _rows(arguments) as rows:
        print(f"{rows.retry()} events wait again")
    return 0


@contextmanager
def _rows(arguments: argparse.Namespace) -> Iterator[Rows]:
    with _engine(arguments) as engine:
        from hookline.relay import Rows

        yield Rows(engine, name=arguments.table, schema=arguments.schema)


@contextmanager
def _engine(arguments: argparse.Namespace) -> Iterator[sa.Engine]:
    url = arguments.database_url or os.environ.get("HOOKLINE_OUTBOX_URL")
    if not url:
        raise InvalidConfiguration("--database-url: is required, or HOOKLINE_OUTBOX_URL in the environment")
    try:
        import sqlalchemy as sa

        import hookline.outbox  # noqa: F401 - says what to install
    except ImportError as exc:
        raise InvalidConfiguration(str(exc)) from exc
    engine = None
    try:
        try:
            engine = sa.create_engine(url, pool_pre_ping=True)
            there = set(sa.inspect(engine).get_table_names(schema=arguments.schema))
        except (sa.exc.SQLAlchemyError, ImportError) as exc:
            # Not the URL itself: it has a password.
            raise HooklineError(f"the database can't be used: {str(exc).splitlines()[0]}") from exc
        if missing := [name for name in (arguments.table, f"{arguments.table}_lease") if name not in there]:
            raise InvalidConfiguration(
                f"the database has no table {missing[0]}; "
                "add hookline.outbox.table(metadata) to the backend's migrations"
            )
        yield engine
    finally:
        if engine is not None:
            engine.dispose()
