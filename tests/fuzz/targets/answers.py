"""Endpoints' answers: whatever bytes come back, and however, a request ends in time with an Outcome and leaves nothing.

A raw TCP server on 127.0.0.1 says the bytes; a plain request that follows must get its own answer and no other's.
"""

from __future__ import annotations

import asyncio
import atexit
import re
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import uvloop
from hypothesis import strategies as st

from shared.domain.delivery.outcomes import Outcome, OutcomeKind, classify_status
from shared.domain.delivery.requested_waits import LONGEST_WAIT_SECONDS
from shared.http.client import KEPT_RESPONSE_BYTES, WebhookClient
from shared.http.request import Request
from shared.settings import load_settings
from tests.fuzz.oracles import in_time
from tests.fuzz.target import Target

TIMEOUT_SECONDS = 0.1
SLACK_SECONDS = 10.0
"""How much later than its time-out an outcome may be; a loaded machine makes it late, a hang makes it never come."""
PROBE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nprobe"
EARLY, PIECES, HELD, REPEATED = 1, 2, 4, 8
ERRORS = re.compile(
    r"no (answer|connection) within [0-9.]+ s"
    r"|the answer broke off, or its body is not valid HTTP|the answer is not valid HTTP"
    r"|the endpoint closed the connection before it answered"
)
# What every HTTP client must read in the same way (RFC 9112), so that the outcome is known beforehand.
_PLAIN = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9]{2}) [A-Za-z ]*\r\n(?:X-[A-Za-z]+: [!-~]*\r\n)*Content-Length: ([0-9]{1,4})\r\n\r\n"
)


def check(data: bytes) -> None:
    """The first byte says how the rest is sent."""
    how, answer = (data[0], data[1:]) if data else (0, b"")
    with in_time(data, 2.0):
        scene = _scene()
        scene.runner.run(_check(scene, how, answer))


async def _check(scene: _Scene, how: int, answer: bytes) -> None:
    scene.how, scene.answer = how, answer * (20 if how & REPEATED and len(answer) < 4000 else 1)
    started = time.monotonic()
    outcome = await scene.sender.send(_request(scene.port, TIMEOUT_SECONDS))
    assert time.monotonic() - started <= TIMEOUT_SECONDS + SLACK_SECONDS
    _check_outcome(outcome)
    if not how & (EARLY | PIECES):
        _check_plain(outcome, scene.answer)
    await _all_said(scene)
    scene.how &= ~EARLY  # a connection that was given up before it was accepted has not heard it
    await _check_next(scene)
    await _nothing_left(scene)


async def _all_said(scene: _Scene) -> None:
    """Wait until the server has said everything, and some turns of the loop in which it is read.

    What comes after the next request is sent can't be told from its answer.
    """
    while scene.saying:  # noqa: ASYNC110 - a turn of the loop is what is waited for
        await asyncio.sleep(0)
    for _ in range(4):
        await asyncio.sleep(0)


async def _check_next(scene: _Scene) -> None:
    """The next request gets its own answer, perhaps not on the connection that the server has just closed."""
    probe = await scene.sender.send(_request(scene.port, SLACK_SECONDS, path="/probe"))
    if probe.error is not None and "closed the connection" in probe.error:
        probe = await scene.sender.send(_request(scene.port, SLACK_SECONDS, path="/probe"))
    assert (probe.status, probe.response_body) == (200, "probe"), f"the next request got another answer: {probe}"


def _request(port: int, timeout_seconds: float, path: str = "/hooks") -> Request:
    return Request(f"http://127.0.0.1:{port}{path}", b'{"a": 1}', {"Content-Type": "application/json"}, timeout_seconds)


def _check_outcome(outcome: Outcome) -> None:
    assert (outcome.status is None) is not (outcome.error is None)
    assert outcome.duration_seconds >= 0
    assert len(outcome.response_body) <= KEPT_RESPONSE_BYTES
    assert "\0" not in outcome.response_body
    outcome.response_body.encode()
    waits = outcome.retry_after_seconds
    assert waits is None or 0 <= waits <= LONGEST_WAIT_SECONDS
    if outcome.status is not None:
        assert outcome.kind is classify_status(outcome.status)
        assert 0 <= outcome.status <= 999
    else:
        assert outcome.kind in (OutcomeKind.NETWORK, OutcomeKind.TIMEOUT)
        assert ERRORS.fullmatch(outcome.error or ""), outcome.error


def _check_plain(outcome: Outcome, answer: bytes) -> None:
    found = _PLAIN.match(answer)
    if found is None or found[1] in (b"204", b"205", b"304"):
        return
    body = answer[found.end() :][: int(found[2])]  # what comes behind it is no part of it
    if len(body) == int(found[2]):
        assert outcome.status == int(found[1]), outcome
        kept = body[:KEPT_RESPONSE_BYTES].decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
        assert outcome.response_body == kept
        assert outcome.response_truncated is (len(body) > KEPT_RESPONSE_BYTES)


async def _nothing_left(scene: _Scene) -> None:
    """No task and no connection is left; both may need a moment to end."""
    deadline = time.monotonic() + SLACK_SECONDS
    while len(asyncio.all_tasks()) > 1 or scene.open:
        assert time.monotonic() < deadline, f"left: {asyncio.all_tasks()}, {len(scene.open)} connections"
        await asyncio.sleep(0)
    assert not scene.faults, scene.faults


@dataclass
class _Scene:
    """One event loop with a sender and a server, for all inputs of a process."""

    runner: asyncio.Runner
    sender: WebhookClient
    how: int = 0
    answer: bytes = b""
    port: int = 0
    saying: int = 0
    """How many connections have something left to say."""
    open: set[_Visit] = field(default_factory=set)
    faults: list[dict[str, Any]] = field(default_factory=list)
    """What was raised where nobody waits for it."""


class _Visit(asyncio.Protocol):
    """One connection: says the scene's answer, or the plain one to a probe."""

    def __init__(self, scene: _Scene) -> None:
        self._scene = scene
        self._asked = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an instance of it on uvloop.
        self._transport = transport = cast("asyncio.Transport", transport)
        self._scene.open.add(self)
        if self._scene.how & EARLY:
            self._scene.how &= ~EARLY
            transport.write(self._scene.answer)

    def data_received(self, data: bytes) -> None:
        self._asked += data
        while b'{"a": 1}' in self._asked:
            asked, _, rest = bytes(self._asked).partition(b'{"a": 1}')
            self._asked = bytearray(rest)
            self._answer(is_probe=b"/probe" in asked)

    def _answer(self, *, is_probe: bool) -> None:
        if is_probe:
            self._transport.write(PROBE)
            self._transport.close()
        elif self._scene.how & PIECES:
            self._scene.saying += 1
            self._say_in_pieces(self._scene.answer, max(1, len(self._scene.answer) // 16))
        else:
            self._transport.write(self._scene.answer)
            self._end()

    def _say_in_pieces(self, left: bytes, size: int) -> None:
        if not self._transport.is_closing():
            self._transport.write(left[:size])
        if left[size:] and not self._transport.is_closing():
            asyncio.get_running_loop().call_soon(self._say_in_pieces, left[size:], size)
        else:
            self._scene.saying -= 1
            self._end()

    def _end(self) -> None:
        if not self._scene.how & HELD:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._scene.open.discard(self)


@cache
def _scene() -> _Scene:
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)

    async def opened() -> tuple[_Scene, asyncio.Server]:
        scene = _Scene(runner, WebhookClient(load_settings(allowed_networks="127.0.0.0/8")))
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: scene.faults.append(context))
        server = await loop.create_server(lambda: _Visit(scene), "127.0.0.1", 0)
        scene.port = server.sockets[0].getsockname()[1]
        return scene, server

    scene, server = runner.run(opened())

    async def close() -> None:
        await scene.sender.aclose()
        server.close()
        await server.wait_closed()

    def end() -> None:
        runner.run(close())
        runner.close()

    atexit.register(end)
    return scene


_WORDS = (
    *(
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 ",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 101 X\r\n",
        "Content-Length: ",
        "\r\n\r\n",
    ),
    *("Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "Connection: keep-alive, Upgrade\r\nUpgrade: h2c\r\n"),
    *(
        "Content-Encoding: gzip\r\n",
        "Retry-After: 120\r\n",
        "Set-Cookie: a=b\r\n",
        "Location: http://169.254.169.254/\r\n",
    ),
    *(
        "0\r\n\r\n",
        "5\r\nabcde\r\n",
        "ffffffffffffffff\r\n",
        "Content-Type: text/html; charset=x\r\n",
        "204 N\r\n",
        "\0",
        "\r",
        "\n",
    ),
)
_bodies = st.binary(max_size=30) | st.binary(max_size=4).map(lambda unit: unit * 2000)
_headers = st.lists(
    st.sampled_from([word.encode() for word in _WORDS if word.endswith("\r\n") and ":" in word])
    | st.builds(b"X-%s: %s\r\n".__mod__, st.tuples(st.sampled_from([b"a", b"B", b""]), st.binary(max_size=5))),
    max_size=3,
).map(b"".join)
_lines = st.builds(b"HTTP/1.1 %d OK\r\n".__mod__, st.integers(0, 1000)) | st.sampled_from(
    [
        b"HTTP/1.1 200\r\n",
        b"HTTP/1.1 999 \xff\r\n",
        b"HTTP/2 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
    ]
)
_framed = st.one_of(
    st.builds(
        lambda line, headers, body: line + headers + b"Content-Length: %d\r\n\r\n%s" % (len(body), body),
        *(_lines, _headers, _bodies),
    ),
    st.builds(
        lambda line, headers, chunks: line
        + headers
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
        + b"0\r\n\r\n",
        _lines, _headers, st.lists(_bodies, max_size=3),
    ),
    st.builds(lambda line, headers, body: line + headers + b"\r\n" + body, _lines, _headers, _bodies),
)  # fmt: skip
_broken = st.builds(
    lambda text, at, other: text[: at % (len(text) + 1)] + other + text[at % (len(text) + 1) :],
    _framed,
    st.integers(0, 200),
    st.sampled_from([word.encode() for word in _WORDS]) | st.binary(max_size=3),
)
# A held connection costs its time-out: few of them.
_how = st.sampled_from([0, 0, 0, EARLY, PIECES, EARLY | PIECES, REPEATED, PIECES | REPEATED] * 3 + [HELD])

TARGET = Target(
    check,
    inputs=st.builds(lambda how, text: bytes([how]) + text, _how, _framed | _broken | st.binary(max_size=20)),
    words=_WORDS,
    is_json=False,
)
