"""A pool that closes at any moment of a request leaves nothing open, and sends nothing more."""

from __future__ import annotations

import asyncio
import socket

import pytest

from shared.http.connection import Trace
from shared.http.dns import AddressInfo
from shared.http.exceptions import ServerDisconnected
from shared.http.pool import ConnectionPool, Origin
from tests.integration.http.hostile import ANSWER, Visit, answering, behaving
from tests.integration.http.sending import ENOUGH_SECONDS, Run, gone

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"


def _plain(address: AddressInfo) -> socket.socket:
    return socket.socket(address[0], address[1], address[2])


async def _post(connections: ConnectionPool, port: int) -> int:
    answer = await connections.request(
        Origin("127.0.0.1", port, None),
        REQUEST,
        timeout_seconds=ENOUGH_SECONDS,
        connect_timeout_seconds=ENOUGH_SECONDS,
        trace=Trace(),
    )
    return answer.status


def test_a_connection_that_comes_about_while_the_pool_closes_carries_nothing(run: Run) -> None:
    async def scenario() -> None:
        def close_meanwhile(address: AddressInfo) -> socket.socket:
            connections.close()
            return _plain(address)

        connections = ConnectionPool(tls_socket=close_meanwhile, plain_socket=close_meanwhile)
        async with behaving(answering(ANSWER)) as endpoint:
            with pytest.raises(ConnectionError, match="closed"):
                await _post(connections, endpoint.port)
            while not endpoint.visits:  # noqa: ASYNC110  (the endpoint tells nobody)
                await asyncio.sleep(0.01)
            await gone(endpoint.visits[0])
            assert endpoint.requests == []

    run(scenario())


def test_an_answer_that_comes_as_the_pool_closes_keeps_no_connection_open(run: Run) -> None:
    async def scenario() -> None:
        async def answers_and_closes(visit: Visit) -> None:
            await visit.request()
            await visit.say(ANSWER)
            asyncio.get_running_loop().call_soon(connections.close)
            await visit.until_gone()

        connections = ConnectionPool(tls_socket=_plain, plain_socket=_plain)
        async with behaving(answers_and_closes) as endpoint:
            (ended,) = await asyncio.gather(_post(connections, endpoint.port), return_exceptions=True)
            assert ended == 200 or isinstance(ended, ServerDisconnected)
            await gone(endpoint.visits[0])
            with pytest.raises(ConnectionError, match="closed"):
                await _post(connections, endpoint.port)

    run(scenario())
