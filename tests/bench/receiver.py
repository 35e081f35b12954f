"""The endpoint that benchmarks deliver to: a process of its own that costs a few microseconds a request.

It answers every POST with 200, at once or after a fixed delay, and notes when the event in the body arrived
(`event_id`, CLOCK_MONOTONIC, which all processes of a machine share). It is no HTTP server for anything else:
it takes Content-Length bodies on plain HTTP/1.1 from clients that behave, and verifies nothing.

Control: GET /stats (counts), GET /arrivals (nanoseconds by event id), POST /reset?delay_ms=N.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import httpx
import orjson
import uvloop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HEAD_END = b"\r\n\r\n"
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
EVENT_ID = re.compile(rb'"event_id":\s*"([^"]*)"')
DELAY = re.compile(rb"delay_ms=(\d+)")
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
REFUSED = b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(slots=True)
class Ledger:
    """What has arrived since the last reset."""

    delay_seconds: float = 0.0
    requests: int = 0
    doubled: int = 0
    arrivals: dict[bytes, int] = field(default_factory=dict)

    def note(self, body: bytes) -> None:
        """Count one request; a second one for the same event keeps the first arrival time."""
        self.requests += 1
        found = EVENT_ID.search(body)
        event_id = found[1] if found else b""
        if event_id in self.arrivals:
            self.doubled += 1
        else:
            self.arrivals[event_id] = time.monotonic_ns()

    def reset(self, delay_seconds: float) -> None:
        """Forget everything; answer from now on after `delay_seconds`."""
        self.delay_seconds = delay_seconds
        self.requests = self.doubled = 0
        self.arrivals = {}

    def stats(self) -> dict[str, float]:
        """The counts, and the CPU seconds of this process so far."""
        return {
            "requests": self.requests,
            "distinct": len(self.arrivals),
            "doubled": self.doubled,
            "cpu_seconds": time.process_time(),
        }


class Conversation(asyncio.Protocol):
    """One keep-alive connection; a delayed answer holds a timer, never a thread."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.loop = asyncio.get_running_loop()
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are not subclasses of it

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        while (head_end := self.buffer.find(HEAD_END)) >= 0:
            head, body_start = self.buffer[:head_end], head_end + len(HEAD_END)
            length = CONTENT_LENGTH.search(head)
            if length is None and head.startswith(b"POST /hook"):
                self.transport.write(REFUSED)
                self.transport.close()
                return
            body_end = body_start + (int(length[1]) if length else 0)
            if len(self.buffer) < body_end:
                return
            body, self.buffer = self.buffer[body_start:body_end], self.buffer[body_end:]
            self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        if not head.startswith(b"POST /hook"):
            self.send(self.control(head.partition(b"\r\n")[0]))
            return
        self.ledger.note(body)
        if self.ledger.delay_seconds:
            self.loop.call_later(self.ledger.delay_seconds, self.send, OK)
        else:
            self.send(OK)

    def control(self, request_line: bytes) -> bytes:
        if request_line.startswith(b"GET /arrivals"):
            return _json({event.decode(): at for event, at in self.ledger.arrivals.items()})
        if request_line.startswith(b"POST /reset"):
            delay = DELAY.search(request_line)
            self.ledger.reset(int(delay[1]) / 1000 if delay else 0.0)
        return _json(self.ledger.stats())

    def send(self, response: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(response)


def _json(content: Mapping[str, float]) -> bytes:
    body = orjson.dumps(content)
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def serve(port: int) -> None:
    """Serve on 127.0.0.1 until SIGTERM or SIGINT, after printing the port."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    ledger = Ledger()
    server = await loop.create_server(lambda: Conversation(ledger), "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()
    server.close()


class Receiver:
    """The benchmark's hold on a receiver process."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook"
        self._control = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)

    def reset(self, *, delay_seconds: float = 0.0) -> None:
        """Forget what arrived; answer from now on after `delay_seconds`."""
        self._control.post(f"/reset?delay_ms={round(delay_seconds * 1000)}").raise_for_status()

    def stats(self) -> dict[str, float]:
        """`requests`, `distinct` events, `doubled` requests since the reset; `cpu_seconds` in all."""
        stats: dict[str, float] = self._control.get("/stats").json()
        return stats

    def arrivals(self) -> dict[str, int]:
        """CLOCK_MONOTONIC nanoseconds of each event's first arrival, by event id."""
        arrivals: dict[str, int] = self._control.get("/arrivals").json()
        return arrivals

    def close(self) -> None:
        self._control.close()


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Start a receiver process, and stop it on leaving."""
    command = [sys.executable, "-m", "tests.bench.receiver"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            with closing(Receiver(int(process.stdout.readline()))) as hold:
                yield hold
        finally:
            process.terminate()
            process.wait(timeout=10)


def main() -> None:
    """Run the receiver process itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
