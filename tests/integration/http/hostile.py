"""An endpoint on 127.0.0.1 that does to a client whatever a test wants, byte by byte."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(slots=True)
class Visit:
    """One connection that a client made."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    requests: list[bytes] = field(default_factory=list)
    sent_bytes: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def request(self) -> bytes:
        """The next request, head and body. Raises IncompleteReadError when the client is gone."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        whole = head + await self.reader.readexactly(length)
        self.requests.append(whole)
        return whole

    async def say(self, data: bytes) -> None:
        """Send bytes. Raises ConnectionError when the client is gone."""
        if self.writer.transport.is_closing():
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()
        await asyncio.sleep(0)  # behind TLS, drain alone never learns that the client is gone
        self.sent_bytes += len(data)

    async def until_gone(self) -> None:
        """Read and drop everything until the client closes."""
        with suppress(ConnectionError):
            while await self.reader.read(1 << 16):
                pass
        self.gone.set()


Behaviour = Callable[[Visit], Awaitable[None]]


@dataclass(slots=True)
class Endpoint:
    """Where a hostile endpoint listens, and who came."""

    port: int = 0
    visits: list[Visit] = field(default_factory=list)

    @property
    def requests(self) -> list[bytes]:
        """All requests that were read, in order of the connections."""
        return [request for visit in self.visits for request in visit.requests]


@asynccontextmanager
async def behaving(behaviour: Behaviour, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Endpoint]:
    """A running endpoint; `behaviour` is called for each connection, which is closed when it returns."""
    endpoint, tasks = Endpoint(), set[asyncio.Task[None]]()

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        visit = Visit(reader, writer)
        endpoint.visits.append(visit)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await behaviour(visit)
        except asyncio.CancelledError:
            return  # the test is over
        finally:
            visit.gone.set()
            writer.close()
            with suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await writer.wait_closed()

    server = await asyncio.start_server(visited, "127.0.0.1", 0, ssl=tls, backlog=1024)
    endpoint.port = server.sockets[0].getsockname()[1]
    try:
        yield endpoint
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def answering(*answers: bytes) -> Behaviour:
    """Answers the requests of a connection with these bytes, one each, and the last to all further ones."""

    async def behaviour(visit: Visit) -> None:
        number = 0
        while True:
            await visit.request()
            await visit.say(answers[min(number, len(answers) - 1)])
            number += 1

    return behaviour
