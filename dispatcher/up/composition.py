"""The parts of `hookline up`: the data directory, the listening socket, and the children under one supervisor.

The composition of the embedded default, and of nothing else. Must not serve, pump or deliver: the children do.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import socket
import stat
import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from typing import TYPE_CHECKING, Any

import click
import httpx
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from dispatcher.up.supervisor import Child, Supervisor
from dispatcher.up.valkey import READY_SECONDS, EmbeddedValkey
from shared.config.listening import why_not_listening
from shared.config.server_urls import in_brackets
from shared.domain.errors import HooklineError
from shared.domain.visible_text import visible, visible_json
from shared.observability.logs import get_logger, writes_json
from shared.observability.metrics_variable import MULTIPROC_VARIABLE
from shared.settings import ENV_PREFIX
from shared.storage.database.engine import open_engine
from shared.storage.maintenance import copy_database as database_copy
from shared.storage.maintenance import first_start, installation
from shared.vault import Vault, has_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shared.settings import Settings

BACKLOG = 2048
"""The connections that the kernel accepts while the API is busy or starts anew; Linux cuts it to
`net.core.somaxconn`."""
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
PYTHON = (sys.executable, "-P")  # -P: the folder it is started in holds no modules
COLOURS = ("cyan", "magenta", "green", "yellow", "blue")

log = get_logger("hookline.up")


class CannotStart(HooklineError):
    """Something is in the way of starting; nothing was started."""


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one.

    Raises:
        CannotStart: when the address is taken or is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.getaddrinfo(host or None, port, family, flags=socket.AI_PASSIVE)  # for its plain errors
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as exc:
        raise CannotStart(why_not_listening(host, port, exc)) from exc


def prepare(
    settings: Settings,
    *,
    say: Callable[[str], None],
    embedded: bool = False,
    make_keys: bool = False,
    adopt: bool = False,
    require_admin_key: bool = False,
    tell_schema: bool = False,
) -> None:
    """Bring the database up to date and say the admin key, if one had to be generated.

    `tell_schema` says too from which schema to which; the other options are those of `first_start.prepare`.

    Raises:
        CannotStart: when the database can't be used.
        StateLost: when it does not belong to the data directory or the keys.
        AdminKeyMissing: when one would have to be generated and must not.
    """
    try:
        done = first_start.prepare(
            settings, embedded=embedded, make_keys=make_keys, adopt=adopt, require_admin_key=require_admin_key
        )
    except SQLAlchemyError as exc:
        raise CannotStart(f"can't use the database: {getattr(exc, 'orig', None) or exc}") from exc
    if tell_schema:
        say(done.schema_line)
    if done.key is not None:
        say(f"admin API key (shown once): {done.key}")


def check_keys(settings: Settings, vault: Vault) -> None:
    """Compare the keys with those that the database was written with, if it can be asked. Raises StateLost."""
    engine = open_engine(settings)
    try:
        installation.check_keys(engine, settings, vault)
    finally:
        engine.dispose()


def copy_database(source: Settings, target: Settings) -> Iterator[tuple[str, int]]:
    """Copy one database into another, and yield each table with its number of rows; nothing is kept unless all is.

    Raises:
        CannotStart, CannotCopy: when a database can't be used, or is not as it has to be.
    """
    file = make_url(source.sqlalchemy_url).database
    if source.sqlalchemy_url.startswith("sqlite") and not (file and Path(file).is_file()):
        raise CannotStart(f"there is no SQLite database {file}")
    if source.sqlalchemy_url == target.sqlalchemy_url:
        raise CannotStart("HOOKLINE_DATABASE_URL is the source itself: set it to the database to copy to")
    engines = open_engine(source), open_engine(target)
    try:
        yield from database_copy.copy_database(*engines)
    except SQLAlchemyError as exc:
        raise CannotStart(f"can't copy: {' '.join(str(getattr(exc, 'orig', None) or exc).split())}") from exc
    finally:
        for engine in engines:
            engine.dispose()


def run_up(settings: Settings, *, workers: int, say: Callable[[str], None]) -> bool:
    """Run the whole service until a signal; whether it ended cleanly.

    `say` gets the generated admin key, if one was generated, and the ready line.

    Raises:
        HooklineError: when it can't start.
    """
    os.umask(0o077)
    with ExitStack() as stack:
        stack.enter_context(_data_dir(settings.data_dir))
        listener = stack.enter_context(listen(settings.host, settings.port))
        port = listener.getsockname()[1]
        try:
            if has_keys(settings):
                Vault.open(settings)
            prepare(settings, say=say, embedded=settings.redis_url is None, make_keys=True)
            valkey = _claim_valkey(settings, stack)
            environment = _environment(settings, port)
        except OSError as exc:
            raise CannotStart(f"can't use {exc.filename or settings.data_dir}: {exc.strerror}") from exc
        parts = _Parts(settings, listener=listener, environment=environment)
        groups = [[valkey]] if valkey else []
        groups += [[*map(parts.worker, range(1, workers + 1))], [parts.dispatcher()], [parts.api()]]
        supervisor = Supervisor(groups, relay=_relay(settings, groups))
        return asyncio.run(
            supervisor.run(
                on_ready=lambda: say(f"hookline ready on http://{in_brackets(settings.host)}:{port}"),
                on_stop=listener.close,  # so that clients are refused instead of waiting in the backlog
            )
        )


@contextmanager
def _data_dir(path: Path) -> Iterator[None]:
    """Create the data directory for this user alone, and hold it against a second `hookline up`."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _keep_others_out(path)
        file = (path / "up.lock").open("a+")
    except OSError as exc:
        raise CannotStart(f"can't use the data directory {path}: {exc.strerror}") from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise CannotStart(f"another hookline up (process {holder}) already runs on {path.resolve()}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _keep_others_out(path: Path) -> None:
    """Make sure that nobody else can write into the data directory. Raises CannotStart where somebody could have."""
    found = path.stat()
    if found.st_mode & stat.S_IWOTH:
        raise CannotStart(
            f"everybody can write into the data directory {path.resolve()} (mode {stat.S_IMODE(found.st_mode):04o}): "
            "check what is in it, and then chmod 700 it"
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise CannotStart(f"the data directory {path.resolve()} belongs to another user (uid {found.st_uid})")
    if found.st_uid == os.geteuid() and found.st_mode & 0o077:
        path.chmod(0o700)


def _claim_valkey(settings: Settings, stack: ExitStack) -> Child | None:
    if settings.redis_url is not None:
        return None
    valkey = EmbeddedValkey(settings)
    valkey.claim()
    stack.callback(valkey.release)
    return Child(
        name="valkey",
        argv=valkey.argv,
        env={name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)},
        cwd=valkey.folder,
        pass_fds=(valkey.lock_fd,),
        ready=valkey.answers,
        ready_seconds=READY_SECONDS,
    )


def _environment(settings: Settings, port: int) -> dict[str, str]:
    """The environment that the children share. They run in the data directory, so no path may be relative.

    The API serves the metrics of all of them, since several workers can't listen on the same port.
    """
    with suppress(FileNotFoundError):
        shutil.rmtree(settings.metrics_dir)
    settings.metrics_dir.mkdir(mode=0o700)
    return {
        **{name: value for name, value in os.environ.items() if name != "HOOKLINE_ADMIN_API_KEY"},
        "HOOKLINE_DATA_DIR": str(settings.data_dir.resolve()),
        "HOOKLINE_DATABASE_URL": absolute_database_url(settings.sqlalchemy_url),
        "HOOKLINE_HOST": settings.host,
        "HOOKLINE_PORT": str(port),
        "HOOKLINE_METRICS_PORT": "0",
        "HOOKLINE_LOG_FORMAT": "json" if writes_json(settings) else "console",
        MULTIPROC_VARIABLE: str(settings.metrics_dir),
    }


def absolute_database_url(text: str) -> str:
    """The database's URL with the path of a SQLite file made absolute, since children run in other directories."""
    url = make_url(text)
    file = url.database
    if url.get_backend_name() != "sqlite" or not file or file == ":memory:" or file.startswith("file:"):
        return text
    return url.set(database=str(Path(file).resolve())).render_as_string(hide_password=False)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The children other than Valkey; all run in the data directory, where no stray `worker.py` is found."""

    settings: Settings
    listener: socket.socket
    environment: dict[str, str]

    def worker(self, number: int) -> Child:
        level = self.settings.log_level.lower()
        name = f"worker{number}"
        celery = ("-m", "celery", "-A", "worker", "--quiet")
        # Mingle and gossip exchange news among workers, which nothing here uses, and take a second at the start.
        worker = ("worker", "-n", f"{name}@%h", "--loglevel", level, "--without-mingle", "--without-gossip")
        return self._child(name, *celery, *worker)

    def dispatcher(self) -> Child:
        return self._child("dispatcher", "-m", "dispatcher.cli", "dispatcher")

    def api(self) -> Child:
        fd = self.listener.fileno()
        return self._child(
            "api", "-m", "dispatcher.cli", "api", "--fd", str(fd), pass_fds=(fd,), ready=self._api_is_ready
        )

    def _child(self, name: str, *arguments: str, **more: Any) -> Child:
        cwd = self.settings.data_dir.resolve()
        return Child(name=name, argv=(*PYTHON, *arguments), env=self.environment, cwd=cwd, **more)

    async def _api_is_ready(self) -> bool:
        host, port = self.listener.getsockname()[:2]
        url = f"http://{in_brackets(WILDCARDS.get(host, host))}:{port}/readyz"
        # An empty TLS context, because loading the certificates costs more than the whole request.
        async with httpx.AsyncClient(trust_env=False, verify=SSLContext(PROTOCOL_TLS_CLIENT)) as client:
            try:
                return (await client.get(url)).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False


def _relay(settings: Settings, groups: list[list[Child]]) -> Callable[[str, str], None]:
    """Prints the children's lines: as they are when they are JSON, else each after its child's name."""
    as_json = writes_json(settings)
    names = [child.name for group in groups for child in group]
    width = max(map(len, names))
    prefixes = {
        name: click.style(f"{name:<{width}} | ", fg=COLOURS[number % len(COLOURS)]) for number, name in enumerate(names)
    }

    def relay(name: str, line: str) -> None:
        with suppress(OSError):  # standard error may be closed, and the child must not block on that
            if not as_json:
                click.echo(prefixes[name] + visible(line), err=True)
            elif line.startswith("{"):
                click.echo(visible_json(line), err=True)
            elif line.strip():
                log.info("child.said", child=name, line=line)

    return relay
