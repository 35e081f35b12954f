"""An HTTP proxy for tests that gives tunnels by CONNECT, remembers who asked for what, and knows names of its own."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass(slots=True)
class Proxy:
    """Where it listens, and what it was asked for."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    """The places of each CONNECT, as they were written."""
    heads: list[bytes] = field(default_factory=list)
    refusal: int | None = None
    """The status that everybody is answered, if any."""


@asynccontextmanager
async def proxying(
    *,
    tls: ssl.SSLContext | None = None,
    login: str | None = None,
    places: Mapping[str, tuple[str, int]] | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[Proxy]:
    """A running proxy.

    Args:
        tls: for connections to the proxy itself.
        login: `user:password` that it asks for.
        places: where the places that clients name are, such as `endpoint.test:443`; others are connected to as named.
        host: where it listens.
    """
    proxy, tasks = Proxy(), set[asyncio.Task[None]]()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                await _serve(proxy, reader, writer, login, places or {})
        except asyncio.CancelledError:
            return
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await writer.wait_closed()

    server = await asyncio.start_server(served, host, 0, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def _serve(
    proxy: Proxy,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    login: str | None,
    places: Mapping[str, tuple[str, int]],
) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    proxy.heads.append(head)
    method, place, _version = head.split(b"\r\n")[0].decode().split(" ")
    assert method == "CONNECT"
    proxy.asked.append(place)
    if login is not None:
        expected = f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}"
        if expected.encode() not in head.split(b"\r\n"):
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 4\r\n\r\nnope")
            await writer.drain()
            return
    if proxy.refusal is not None:
        writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 4\r\n\r\nnope" % proxy.refusal)
        await writer.drain()
        return
    host, _, port = place.rpartition(":")
    try:
        there = await asyncio.open_connection(*places.get(place, (host.strip("[]"), int(port))))
    except OSError:
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        return
    writer.write(b"HTTP/1.1 200 Connection established\r\nProxy-Agent: test\r\n\r\n")
    await writer.drain()
    await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()
