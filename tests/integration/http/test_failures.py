"""Endpoints that refuse, leave, hang, drip and lie: each end is an outcome in plain words."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import socket

import pytest
from structlog.testing import capture_logs

from shared.domain.delivery.outcomes import Outcome, OutcomeKind
from shared.http.pool import ConnectionPool
from shared.http.request import Request
from tests.integration.http.hostile import ANSWER, Behaviour, Visit, answering, behaving
from tests.integration.http.sending import (
    ENOUGH_SECONDS,
    SOON_SECONDS,
    TOO_LATE,
    Run,
    check,
    failing,
    gone,
    opened,
    send,
)
from tests.servers import free_port


async def _closes_at_once(visit: Visit) -> None:
    return


async def _closes_after_the_request(visit: Visit) -> None:
    await visit.request()


async def _resets(visit: Visit) -> None:
    await visit.request()
    sock: socket.socket = visit.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    visit.writer.transport.abort()


async def _hangs(visit: Visit) -> None:
    await visit.request()
    await visit.until_gone()


async def _never_reads(visit: Visit) -> None:
    await asyncio.sleep(ENOUGH_SECONDS)


async def _drips_headers(visit: Visit) -> None:
    await visit.request()
    for byte in itertools.chain(b"HTTP/1.1 200 OK\r\nX: ", itertools.repeat(120)):
        await visit.say(bytes([byte]))
        await asyncio.sleep(0.02)


async def _drips_a_body(visit: Visit) -> None:
    await visit.request()
    await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        await visit.say(b"x")
        await asyncio.sleep(0.02)


async def _answers_once(visit: Visit) -> None:
    await visit.request()
    await visit.say(ANSWER)


CLOSED = "the endpoint closed the connection before it answered"
BROKE_OFF = "the answer broke off, or its body is not valid HTTP"
NOT_HTTP = "the answer is not valid HTTP"


def test_a_closed_port_refuses(run: Run) -> None:
    async def outcome() -> Outcome:
        async with opened() as sender:
            return await send(sender, f"http://127.0.0.1:{free_port()}")

    check(run, outcome(), OutcomeKind.NETWORK, "connection refused")


@pytest.mark.parametrize("behaviour", [_closes_at_once, _closes_after_the_request, _resets])
def test_an_endpoint_that_leaves(run: Run, behaviour: Behaviour) -> None:
    check(run, failing(behaviour), OutcomeKind.NETWORK, CLOSED)


@pytest.mark.parametrize("behaviour", [_hangs, _drips_headers, _drips_a_body])
def test_an_endpoint_that_takes_too_long_in_any_way(run: Run, behaviour: Behaviour) -> None:
    check(run, failing(behaviour, within=SOON_SECONDS), OutcomeKind.TIMEOUT, TOO_LATE)


@pytest.mark.filterwarnings("ignore:Sending a large body")
def test_an_endpoint_that_reads_nothing_of_a_large_request(run: Run) -> None:
    async def scenario() -> None:
        async with behaving(_never_reads) as endpoint, opened() as sender:
            large = Request(
                url=f"http://127.0.0.1:{endpoint.port}/",
                body=b"x" * (16 << 20),
                headers={},
                timeout_seconds=SOON_SECONDS,
            )
            outcome = await asyncio.wait_for(sender.send(large), ENOUGH_SECONDS)
            assert (outcome.kind, outcome.error) == (OutcomeKind.TIMEOUT, TOO_LATE)

    run(scenario())


@pytest.mark.parametrize("ends", ["its time is over", "it is cancelled", "the pool is closed"])
def test_of_a_request_that_was_given_up_nothing_more_arrives(run: Run, ends: str) -> None:
    """What the kernel has of it would, where nobody read it for a while or the way was cut."""

    async def scenario(listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        async with opened() as sender:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            within = SOON_SECONDS if ends == "its time is over" else ENOUGH_SECONDS
            sending = asyncio.create_task(sender.send(Request(url, b"x" * (1 << 20), {}, timeout_seconds=within)))
            reading, _ = await loop.sock_accept(listening)
            with reading:
                assert await loop.sock_recv(reading, 1) == b"P"
                if ends == "it is cancelled":
                    sending.cancel()
                elif ends == "the pool is closed":
                    await sender.aclose()
                await asyncio.wait([sending], timeout=ENOUGH_SECONDS)
                with pytest.raises(ConnectionResetError):
                    while await asyncio.wait_for(loop.sock_recv(reading, 1 << 16), ENOUGH_SECONDS):
                        pass

    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        run(scenario(listening))


@pytest.mark.filterwarnings("ignore:Sending a large body")
def test_an_answer_counts_although_the_request_was_not_read_to_its_end(run: Run) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await asyncio.sleep(ENOUGH_SECONDS)

    async def scenario() -> None:
        async with behaving(behaviour) as endpoint, opened() as sender:
            url = f"http://127.0.0.1:{endpoint.port}/"
            outcome = await sender.send(Request(url=url, body=b"x" * (16 << 20), headers={}, timeout_seconds=5))
            assert (outcome.kind, outcome.status) == (OutcomeKind.CLIENT_ERROR, 413)
            assert outcome.response_body == "no"

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", NOT_HTTP),
        (b"secret-in-header echoed\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 abc OK\r\n\r\n", NOT_HTTP),
        (b"HTTP/9.9.9 200 OK\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\nno colon secret-in-header\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n", NOT_HTTP),
        (b"HTTP/1.1 200 " + b"y" * 100_000 + b"\r\n\r\n", NOT_HTTP),
        (b"\0" * 100_000, NOT_HTTP),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", BROKE_OFF),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", BROKE_OFF),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nsecret-in-header\r\n", NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\nContent-Length: ", CLOSED),
    ],
)
def test_what_is_no_http(run: Run, answer: bytes, error: str) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(answer)

    check(run, failing(behaviour), OutcomeKind.NETWORK, error)


def test_a_connection_that_the_endpoint_closed_in_between_is_replaced(run: Run) -> None:
    async def scenario() -> None:
        async with behaving(_answers_once) as endpoint, opened() as sender:
            for number in range(1, 4):
                assert (await send(sender, endpoint)).kind is OutcomeKind.SUCCESS
                await gone(endpoint.visits[-1])
                await asyncio.sleep(0)
                assert len(endpoint.visits) == number

    run(scenario())


@pytest.mark.parametrize(
    ("value", "raised"),
    [
        ("a\r\nX-Evil: secret-in-header", "ValueError"),
        ("a\nb", "ValueError"),
        ("a\0b", "ValueError"),
        ("\ud800", "UnicodeEncodeError"),
    ],
)
def test_a_header_that_http_does_not_allow_is_not_sent_and_blames_no_endpoint(
    run: Run, value: str, raised: str
) -> None:
    async def outcome() -> Outcome:
        async with behaving(answering(ANSWER)) as endpoint, opened() as sender:
            found = await send(sender, endpoint, headers={"X-Token": value})
            assert endpoint.requests == []
            return found

    check(run, outcome(), OutcomeKind.INTERNAL, f"a fault in Hookline, not in the endpoint ({raised})")


def test_a_fault_of_a_library_is_an_outcome_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("secret-in-header")

    monkeypatch.setattr(ConnectionPool, "request", fail)

    async def outcome() -> Outcome:
        async with opened() as sender:
            return await send(sender, "http://127.0.0.1")

    with capture_logs() as logs:
        check(run, outcome(), OutcomeKind.INTERNAL, "a fault in Hookline, not in the endpoint (AssertionError)")
    [line] = logs
    assert line["event"] == "request.fault" and "fail" in line["at"][-1]
    assert "secret-in-header" not in str(line)


def test_a_host_that_runs_out_of_files_is_not_the_endpoints_fault(run: Run) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def outcome() -> Outcome:
        async with behaving(answering(ANSWER)) as endpoint, opened() as sender:
            spare = os.dup(0)
            os.close(spare)
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare, before[1]))
            try:
                return await send(sender, endpoint)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)

    check(run, outcome(), OutcomeKind.INTERNAL, "Hookline's host is out of a resource: Too many open files")


def test_cancelling_is_not_an_outcome(run: Run) -> None:
    async def scenario() -> None:
        async with behaving(_hangs) as endpoint, opened() as sender:
            sending = asyncio.create_task(send(sender, endpoint))
            while not endpoint.requests:  # noqa: ASYNC110  (the endpoint tells nobody)
                await asyncio.sleep(0.01)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await gone(endpoint.visits[0])

    run(scenario())
