"""The endpoint of the drills: a process of its own that answers 200 and remembers every request it got.

For each: the event's id in the body, the `webhook-id`, CLOCK_MONOTONIC, which all processes of a machine share, and the
address that it came from.
GET /log answers with all of them.
"""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import httpx
import orjson
import uvloop

from tests.authority import TRUSTS_NOBODY

HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
WEBHOOK_ID = re.compile(rb"\r\nwebhook-id:[ \t]*([^\r]*)", re.IGNORECASE)
Entry = tuple[str, str, float, str]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: its event, its webhook-id, when it came (seconds, CLOCK_MONOTONIC), and from which address."""

    event: str
    webhook_id: str
    at: float
    sender: str


class Conversation(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, log: list[Entry]) -> None:
        self._log = log
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not subclasses of it
        self._peer: str = transport.get_extra_info("peername")[0]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(HEAD_END)) >= 0:
            head, start = self._buffer[:end], end + len(HEAD_END)
            length = LENGTH.search(head)
            stop = start + (int(length[1]) if length else 0)
            if len(self._buffer) < stop:
                return
            body, self._buffer = self._buffer[start:stop], self._buffer[stop:]
            self._transport.write(self._answer(head, body))

    def _answer(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"GET"):
            log = orjson.dumps(self._log)
            return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(log) + log
        named = WEBHOOK_ID.search(head)
        webhook_id = named[1].decode() if named else ""
        self._log.append((orjson.loads(body)["event"], webhook_id, time.monotonic(), self._peer))
        return OK


async def _serve(host: str) -> None:
    log: list[Entry] = []
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.get_running_loop().create_server(lambda: Conversation(log), host, 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()
    server.close()


@dataclass(frozen=True, slots=True)
class Receiver:
    """A drill's hold on its receiver."""

    url: str

    def arrivals(self) -> list[Arrival]:
        """Every request so far, in order."""
        log = httpx.get(f"{self.url}/log", timeout=60, trust_env=False, verify=TRUSTS_NOBODY).json()
        return [Arrival(*one) for one in log]


@contextmanager
def receiving(host: str = "127.0.0.1") -> Iterator[Receiver]:
    """A running receiver that listens on this address."""
    command = [sys.executable, "-m", "tests.faults.receiver", host]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Receiver(f"http://{host}:{int(process.stdout.readline())}")
        finally:
            process.terminate()
            process.wait(timeout=10)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sys.argv[1]))
