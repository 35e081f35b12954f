"""`hookline-mlflow`: the relay as a process of its own, and what a database's owner has to do where MLflow may not."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

from hookline.cli import main as client_main
from hookline.client import Client
from hookline.errors import HooklineError, InvalidConfiguration

_URL = "MLFLOW_BACKEND_STORE_URI"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 2 for wrong arguments or settings, 1 where events are parked or could not be sent."""
    parser = argparse.ArgumentParser(prog="hookline-mlflow", description="Events of an MLflow's database.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, summary in (
        ("relay", "send events for as long as it runs, instead of the server (HOOKLINE_MLFLOW_RELAY=off)"),
        ("status", "how many events wait, and which are parked, with the reason"),
        ("retry", "have parked events wait again"),
        ("create-tables", "make the outbox, where the server's user may not"),
    ):
        one = commands.add_parser(name, help=summary, description=summary)
        one.add_argument("--database-url", help=f"MLflow's database, as --backend-store-uri; or {_URL}")
    given = parser.parse_args(arguments)
    try:
        url = given.database_url or os.environ.get(_URL)
        if not url:
            raise InvalidConfiguration(f"--database-url: is required, or {_URL} in the environment")
        if given.command in ("status", "retry"):
            from hookline_mlflow.recorder import TABLE

            words = ["outbox", given.command, "--database-url", url, "--table", TABLE]
            return client_main(words, program="hookline-mlflow")
        return _create_tables(url) if given.command == "create-tables" else _relay(url)
    except HooklineError as exc:
        print(f"hookline-mlflow: {exc}", file=sys.stderr)
        return 2


def _create_tables(url: str) -> int:
    import sqlalchemy as sa

    from hookline_mlflow.tables import create

    try:
        engine = sa.create_engine(url)
        create(engine)
        engine.dispose()
    except (sa.exc.SQLAlchemyError, ImportError) as exc:
        raise _unusable(exc) from exc
    return 0


def _relay(url: str) -> int:
    import sqlalchemy as sa

    from hookline_mlflow.relaying import TIMEOUT_SECONDS, FactRelay
    from hookline_mlflow.settings import Settings
    from hookline_mlflow.tables import create

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    settings = Settings.of_environment()
    try:
        engine = sa.create_engine(url, pool_pre_ping=True)
        create(engine)
    except (sa.exc.SQLAlchemyError, ImportError) as exc:
        raise _unusable(exc) from exc
    with Client(timeout_seconds=TIMEOUT_SECONDS) as client:
        relay = FactRelay(engine, client, settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: relay.stop())
        print("relaying", flush=True)
        relay.run()
    engine.dispose()
    return 0


def _unusable(exc: Exception) -> HooklineError:
    # Not the URL itself: it has a password.
    return InvalidConfiguration(f"the database can't be used: {str(exc).splitlines()[0]}")
