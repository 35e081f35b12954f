"""Keeps the processes of one `hookline up` alive, and ends them in order.

Groups of children start one after the other and stop in reverse. A child that dies is started again, with growing
delays; a child outlives neither the supervisor nor, with its whole session, its own replacement. Must not know what
the children do: that is `dispatcher.up.composition`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatcher.up import die_with_parent
from shared.domain.errors import HooklineError
from shared.observability.logs import get_logger

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence

FIRST_RESTART_SECONDS = 0.2
"""The delay after the first death: an accident is mended without a noticeable gap."""
MAX_RESTART_SECONDS = 10.0
"""The longest delay: a child that can't run costs a start every ten seconds, and is back soon after the cause ends."""
MAX_DOUBLINGS = 10
"""Enough doublings to pass the longest delay; a float can't hold thousands of them."""
STEADY_SECONDS = 30.0
"""A child that lived for this long counts as recovered: the delays start over."""
GRACE_SECONDS = 30.0
"""The time between SIGTERM and SIGKILL: longer than a worker's default `shutdown_grace`."""
STARTS_BEFORE_READY = 5
"""A child that died this often before it was ready ends all processes: an operator has to look."""
READY_POLL_SECONDS = 0.05
"""How often a starting child is asked whether it is ready. Twice as long delays a start, which takes about a second."""
ONE_SIGNAL_SECONDS = 0.5
"""Signals within this time are one request to stop: `timeout` and `make` may deliver it twice."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LAST_LINES_SECONDS = 1.0
"""How long to wait for a dead child's last lines; a process that it left behind may keep its output open."""
CHUNK_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 20
"""A line of output that gets longer is passed on in parts, so that a child can't fill this process's memory."""

log = get_logger("hookline.supervisor")


class ChildFailed(HooklineError):
    """A child can't be brought up: it died again and again, or did not become ready in time."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep alive: `argv[0]` is an absolute path, `env` is its whole environment."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    cwd: Path | None = None
    pass_fds: Sequence[int] = ()
    ready: Callable[[], Awaitable[bool]] | None = None
    ready_seconds: float = 60.0


class Supervisor:
    """Runs groups of children until a signal or `request_stop` ends it.

    `relay` is called with each line that a child prints: `(child's name, line)`. `grace_seconds` is the time that a
    stopping child gets between SIGTERM and SIGKILL. All of it runs on one event loop, in the main thread.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[Child]],
        *,
        relay: Callable[[str, str], None],
        grace_seconds: float = GRACE_SECONDS,
        steady_seconds: float = STEADY_SECONDS,
    ) -> None:
        self._groups = [[_SupervisedChild(child, relay, steady_seconds) for child in group] for group in groups]
        self._grace_seconds = grace_seconds
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._hurry_after = 0.0

    async def run(self, *, on_ready: Callable[[], None], on_stop: Callable[[], None]) -> bool:
        """Start everything, call `on_ready`, wait for a signal, call `on_stop`, stop everything.

        Returns whether every child ended by itself in time. Must run in the main thread, whose death is what the
        children are tied to.

        Raises:
            ChildFailed: after stopping what ran, when a child could not be brought up.
        """
        with self._signals():
            try:
                starting = asyncio.create_task(self._start())
                stopping = asyncio.create_task(self._stop.wait())
                await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    starting.result()
                    on_ready()
                await stopping
            finally:
                starting.cancel()
                stopping.cancel()
                on_stop()
                clean = await self._end()
        return clean

    def request_stop(self) -> None:
        """Begin to stop, as on SIGTERM; at a second request kill the children that are left."""
        loop = asyncio.get_running_loop()
        if not self._stop.is_set():
            self._hurry_after = loop.time() + ONE_SIGNAL_SECONDS
            self._stop.set()
        elif loop.time() > self._hurry_after:
            self._hurry.set()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        # A signal that is ignored was ignored on purpose, by nohup or by a shell that runs this in the background.
        heeded = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in heeded:
            loop.add_signal_handler(number, self.request_stop)
        try:
            yield
        finally:
            for number in heeded:
                loop.remove_signal_handler(number)

    async def _start(self) -> None:
        for group in self._groups:
            await asyncio.gather(*(kept.start() for kept in group))

    async def _end(self) -> bool:
        clean = True
        for group in reversed(self._groups):
            ends = [kept.end(grace_seconds=self._grace_seconds, hurry=self._hurry) for kept in group]
            clean &= all(await asyncio.gather(*ends))
        return clean


class _SupervisedChild:
    """One child: its current process, and the task that replaces it when it dies."""

    def __init__(self, child: Child, relay: Callable[[str, str], None], steady_seconds: float) -> None:
        self.child = child
        self._relay = relay
        self._steady_seconds = steady_seconds
        self._process: Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._was_ready = child.ready is None

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        self._keeping = asyncio.create_task(self._keep())
        if self.child.ready is None:
            return
        waiting = asyncio.create_task(self._wait_ready(self.child.ready))
        try:
            await asyncio.wait((waiting, self._keeping), return_when=asyncio.FIRST_COMPLETED)
            if self._keeping.done():
                self._keeping.result()
            await waiting
        finally:
            waiting.cancel()

    async def _wait_ready(self, ready: Callable[[], Awaitable[bool]]) -> None:
        try:
            async with asyncio.timeout(self.child.ready_seconds):
                while not await ready():  # noqa: ASYNC110 - what is waited for is another process
                    await asyncio.sleep(READY_POLL_SECONDS)
        except TimeoutError:
            raise ChildFailed(f"{self.child.name} was not ready within {self.child.ready_seconds:g} s") from None
        self._was_ready = True

    async def _keep(self) -> None:
        """Run the child again and again until it is to end."""
        loop = asyncio.get_running_loop()
        starts = deaths = 0
        while not self._ending.is_set():
            born, starts = loop.time(), starts + 1
            status = await self._live()
            if self._ending.is_set():
                return
            if not self._was_ready and starts >= STARTS_BEFORE_READY:
                raise ChildFailed(f"{self.child.name} ended {starts} times before it was ready, at last with {status}")
            deaths = 1 if loop.time() - born >= self._steady_seconds else deaths + 1
            delay = restart_delay_seconds(deaths)
            log.warning("child.died", child=self.child.name, status=status, restart_in_seconds=delay)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), delay)

    async def _live(self) -> str:
        """Run the child once, and end the processes that it left behind; returns how it ended."""
        async with _pipe(self._relay_from) as output:
            try:
                self._process = process = await self._spawn(output)
            except OSError as exc:
                return f"no start: {exc}"
            finally:
                os.close(output)
            if self._ending.is_set():
                self._signal(signal.SIGTERM)
            code = await process.wait()
            self._kill_session()
            self._process = None
        return signal.Signals(-code).name if code < 0 else f"status {code}"

    async def _spawn(self, output: int) -> Process:
        child = self.child
        return await asyncio.create_subprocess_exec(
            *command_tied_to_parent(child.argv),
            env=child.env,
            cwd=child.cwd,
            pass_fds=child.pass_fds,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    async def _relay_from(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await stream.read(CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._relay(self.child.name, line.decode(errors="replace"))
        if rest:
            self._relay(self.child.name, rest.decode(errors="replace"))

    async def end(self, *, grace_seconds: float, hurry: asyncio.Event) -> bool:
        """Ask the child to end, and kill it after `grace_seconds` or when it hurries; whether it ended by itself."""
        self._ending.set()
        if self._keeping is None:
            return True
        self._signal(signal.SIGTERM)
        hurrying = asyncio.create_task(hurry.wait())
        await asyncio.wait((self._keeping, hurrying), timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        clean = self._keeping.done()
        if not clean:
            log.warning("child.killed", child=self.child.name)
            self._kill_session()
        with suppress(ChildFailed):
            await self._keeping
        return clean

    def _signal(self, number: signal.Signals) -> None:
        """To the child alone: it tells its own children, if it has any."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _kill_session(self) -> None:
        """To everything that the child started and that is still there."""
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)


@asynccontextmanager
async def _pipe(read: Callable[[asyncio.StreamReader], Coroutine[Any, Any, None]]) -> AsyncIterator[int]:
    """The write end of a pipe whose other end `read` gets; on leaving, waits a moment for the last lines.

    Not asyncio's own pipe, because some Pythons don't report a process's end before its pipes are closed, and what
    the process left behind may hold them open for ever.
    """
    loop = asyncio.get_running_loop()
    read_end, write_end = os.pipe()
    stream = asyncio.StreamReader()
    transport, _protocol = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(read_end, "rb", buffering=0)
    )
    reading = asyncio.create_task(read(stream))
    try:
        yield write_end
        await asyncio.wait((reading,), timeout=LAST_LINES_SECONDS)
    finally:
        reading.cancel()
        transport.close()


def restart_delay_seconds(deaths: int) -> float:
    """The delay before the next start after this many deaths in a row: 0.2 s, doubled with each, up to 10 s."""
    return min(MAX_RESTART_SECONDS, FIRST_RESTART_SECONDS * 2.0 ** min(deaths - 1, MAX_DOUBLINGS))


def command_tied_to_parent(argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` and ends with this process, isolated from the user's folder and environment."""
    return [sys.executable, "-I", "-S", str(Path(die_with_parent.__file__)), str(os.getpid()), *argv]
