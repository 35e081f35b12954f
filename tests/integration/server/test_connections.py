"""What a client can take from the API's server before anybody asks for its key: real sockets, and bounds of seconds."""

from __future__ import annotations

import asyncio
import resource
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from cryptography.fernet import Fernet
from prometheus_client import REGISTRY, CollectorRegistry

from dispatcher.server.connection import Bounds
from dispatcher.server.server import RESERVED_DESCRIPTORS, Server, possible_connections
from shared.config.descriptors import raise_descriptor_limit
from shared.config.setting_types import InvalidSetting
from shared.observability import metrics_server
from shared.observability.metrics_server import start_metrics_server
from shared.settings import load_settings
from tests.integration.conftest import migrated_database
from tests.integration.processes import running, wait_until
from tests.servers import free_port

LARGE = 32 << 20
QUICK = Bounds(head_seconds=1, body_seconds=1, answer_seconds=1, linger_seconds=1, linger_bytes=1 << 20, pipelined=8)
HOST = b"Host: hookline\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
SECONDS = 30


class Application:
    """Answers each request with how many bytes its body has; `/large` with very many; `/late` when it is let."""

    def __init__(self) -> None:
        self.finished: list[str] = []
        self.may_answer = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        size = 0
        more = scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.finished.append("left")
                return
            size += len(message["body"])
            more = message["more_body"]
        if scope["path"] == "/late":
            await asyncio.to_thread(self.may_answer.wait)
        body = b"x" * LARGE if scope["path"] == "/large" else b"%d" % size
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})
        self.finished.append(scope["path"])


class Running:
    """A server in a thread, with an application that needs no database."""

    def __init__(self, bounds: Bounds) -> None:
        self.application = Application()
        self.server = Server(lambda: self.application, bounds)
        self.server.config.lifespan = "off"
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.address = self.listener.getsockname()

    @property
    def open(self) -> int:
        """Connections that the server holds."""
        return len(self.server.server_state.connections)

    def connected(self, said: bytes = b"") -> socket.socket:
        """A connection on which something was said."""
        client = socket.create_connection(self.address, timeout=SECONDS)
        client.sendall(said)
        return client

    def asked(self, said: bytes) -> bytes:
        """All that is answered until the server ends the connection."""
        with self.connected(said) as client:
            return read_all(client)


def read_all(client: socket.socket) -> bytes:
    """What comes until the connection ends, in whatever way."""
    answer = bytearray()
    with suppress(ConnectionError):
        while data := client.recv(1 << 16):
            answer += data
    return bytes(answer)


def send_until_refused(client: socket.socket, piece: bytes, most_bytes: int) -> int:
    """How many bytes the server took before it ended the connection."""
    sent = 0
    with suppress(ConnectionError):
        while sent < most_bytes:
            sent += client.send(piece)
    return sent


@contextmanager
def serving(bounds: Bounds) -> Iterator[Running]:
    """A server with these bounds."""
    running = Running(bounds)
    thread = threading.Thread(target=running.server.run, kwargs={"sockets": [running.listener]})
    thread.start()
    try:
        wait_until(lambda: running.server.started, "server")
        yield running
    finally:
        running.application.may_answer.set()
        running.server.force_exit = running.server.should_exit = True
        thread.join()


@pytest.fixture
def server() -> Iterator[Running]:
    """A server that waits for a second at most."""
    with serving(QUICK) as running:
        yield running


def cuts(reason: str) -> float:
    """How many connections were cut for this reason."""
    return REGISTRY.get_sample_value("hookline_connections_cut_total", {"reason": reason}) or 0.0


ENDLESS = {
    "a header": (b"GET / HTTP/1.1\r\n" + HOST + b"X-Long: ", b"x" * 4096),
    "headers": (b"GET / HTTP/1.1\r\n" + HOST, b"a:b\r\n" * 1000),
    "empty headers": (b"GET / HTTP/1.1\r\n" + HOST, b"a:\r\n" * 1000),
    "a header's name": (b"GET / HTTP/1.1\r\n" + HOST, b"x" * 4096),
    "a URL": (b"GET /", b"x" * 4096),
    "a method": (b"", b"G" * 4096),
    "blank lines": (b"", b"\r\n" * 2000),
    "a chunk extension": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1;a=", b"x" * 4096),
    "trailers": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
        b"a:b\r\n" * 1000,
    ),
    "a trailer": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Long: ",
        b"x" * 4096,
    ),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_is_no_body_ends_at_64_kib(server: Running, what: str) -> None:
    begin, piece = ENDLESS[what]
    with server.connected(begin) as client:
        # The server takes a little more, so that the client reads why.
        sent = send_until_refused(client, piece, 64 << 20)
        answer = read_all(client)
    assert sent < (8 << 20)
    assert answer.split(b" ", 2)[:2] in ([b"HTTP/1.1", b"431"], [b"HTTP/1.1", b"400"], [b""])
    assert server.asked(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")).endswith(b"\r\n0")


def test_a_head_that_is_too_large_is_refused_with_a_problem(server: Running) -> None:
    answer = server.asked(b"GET / HTTP/1.1\r\n" + HOST + b"X-Long: " + b"x" * (70 << 10))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert b"connection: close" in head
    assert httpx.Response(431, content=body).json()["detail"].endswith("at most 65536 bytes in 200 fields")
    many = b"GET / HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 300 + b"\r\n"
    assert server.asked(many).startswith(b"HTTP/1.1 431 ")


def test_a_head_within_its_bounds_is_served(server: Running) -> None:
    head = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\nX-Long: " + b"x" * (60 << 10) + b"\r\n\r\n"
    assert server.asked(head).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n", GET + b"GET "])
def test_a_head_has_to_come_in_time(server: Running, said: bytes) -> None:
    before = cuts("head_too_slow")
    answer = server.asked(said)
    if said and said != GET + b"GET ":
        assert answer.startswith(b"HTTP/1.1 408 ")
    wait_until(lambda: server.open == 0, "end of all connections")
    if said != GET + b"GET ":  # or its keep-alive ended first
        assert cuts("head_too_slow") > before


def test_a_head_that_drips_is_cut_off(server: Running) -> None:
    with server.connected(b"GET / HTTP/1.1\r\nX: ") as client:
        end = time.monotonic() + SECONDS
        with suppress(ConnectionError):
            while server.open:
                assert time.monotonic() < end
                client.send(b"x")
                time.sleep(0.05)


@pytest.mark.parametrize("drip", [b"", b"x"])
def test_a_body_has_to_come_in_time(server: Running, drip: bytes) -> None:
    before = cuts("body_too_slow")
    with server.connected(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\nx") as client:
        end = time.monotonic() + SECONDS
        with suppress(ConnectionError):
            while cuts("body_too_slow") == before:
                assert time.monotonic() < end
                client.send(drip)
                time.sleep(0.05)
        assert read_all(client).startswith(b"HTTP/1.1 408 ") or drip
    wait_until(lambda: server.application.finished == ["left"], "end of the request")


def test_a_body_that_nobody_wants_is_read_for_a_moment_only(server: Running) -> None:
    begin = b"POST /early HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000000\r\n\r\n"
    with server.connected(begin) as client:
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        assert send_until_refused(client, b"x" * 65536, 64 << 20) < (16 << 20)
    with server.connected(begin + b"x") as client:  # and then nothing
        assert read_all(client).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_does_not_read_is_cut_off(server: Running) -> None:
    before = cuts("answer_not_read")
    with server.connected(GET.replace(b"/ ", b"/large ", 1)) as client:
        assert client.recv(1)
        wait_until(lambda: cuts("answer_not_read") > before, "cut")
        wait_until(lambda: server.open == 0, "end of the connection")
        assert len(read_all(client)) < LARGE


def test_a_client_that_reads_slowly_gets_all(server: Running) -> None:
    with server.connected(GET.replace(b"/ ", b"/large ", 1)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        size = 0
        while size < LARGE:
            data = client.recv(1 << 18)
            assert data
            size += len(data)
            time.sleep(0.005)


def test_few_requests_are_taken_ahead_of_their_answers(server: Running) -> None:
    late = GET.replace(b"/ ", b"/late ", 1)
    with server.connected(late + GET * 10_000) as client:
        wait_until(lambda: any(one.pipeline for one in server.server.server_state.connections), "pipeline")  # type: ignore[union-attr]
        (connection,) = server.server.server_state.connections
        assert len(connection.pipeline) <= QUICK.pipelined  # type: ignore[union-attr]
        server.application.may_answer.set()
        answers = read_all(client)
    assert answers.count(b"HTTP/1.1 200 ") == QUICK.pipelined + 1
    assert b"connection: close" in answers


def test_a_refusal_waits_for_the_answers_before_it(server: Running) -> None:
    late = GET.replace(b"/ ", b"/late ", 1)
    with server.connected(late + b"no HTTP at all\r\n\r\n") as client:
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(SECONDS)
        server.application.may_answer.set()
        answers = read_all(client)
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert answers.count(b"HTTP/1.1 ") == 1


def test_requests_in_a_row_are_answered(server: Running) -> None:
    ended = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert server.asked(GET * 3 + ended).count(b"HTTP/1.1 200 ") == 4
    assert server.asked(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").startswith(b"HTTP/1.1 200 ")


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nUpgrade: h2c\r\n"
WEBSOCKET = b"Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\nSec-WebSocket-Version: 13\r\n"
WHOLE, CHUNKED = (
    b"Content-Length: 5\r\n\r\n12345",
    b"Transfer-Encoding: chunked\r\n\r\n3\r\n123\r\n2\r\n45\r\n0\r\n\r\n",
)


@pytest.mark.parametrize("offer", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
def test_an_offer_to_upgrade_is_ignored_and_the_body_is_read(server: Running, offer: bytes) -> None:
    last = b"POST / HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: 2\r\n\r\n12"
    for body, size in ((WHOLE, b"5"), (CHUNKED, b"5"), (b"\r\n", b"0"), (b"Content-Length: 0\r\n\r\n", b"0")):
        request = b"POST / HTTP/1.1\r\n" + HOST + offer + body
        answers = server.asked(request + request + last)
        assert [answer[-1:] for answer in answers.split(b"HTTP/1.1 200 ")[1:]] == [size, size, b"2"]
        with server.connected() as client:
            for place in range(len(request)):
                client.sendall(request[place : place + 1])
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
            client.sendall(last)
            answer = read_all(client)
            assert answer.endswith(b"2")
    assert server.asked(b"POST / HTTP/1.0\r\n" + offer + WHOLE).endswith(b"\r\n5")


def test_an_offer_to_upgrade_lifts_no_bound(server: Running) -> None:
    head = b"POST / HTTP/1.1\r\n" + HOST + H2C
    both = server.asked(head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert both.startswith(b"HTTP/1.1 400 ")
    assert server.asked(head + b"X: " + b"x" * (65 << 10) + b"\r\n\r\n").startswith(b"HTTP/1.1 431 ")
    assert server.asked(head + b"A: b\r\n" * 201 + b"\r\n").startswith(b"HTTP/1.1 431 ")
    assert server.asked(head + b"Content-Length: 5\r\n\r\n123").startswith(b"HTTP/1.1 408 ")
    answers = server.asked(GET.replace(b"\r\n\r\n", b"\r\n" + H2C + b"\r\n") + b"no HTTP\r\n\r\n")
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert answers.count(b"HTTP/1.1 ") == 1
    assert server.asked(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n" + H2C + b"\r\nhello").count(b"HTTP/1.1 ") <= 1
    assert server.asked((GET.replace(b"\r\n\r\n", b"\r\n" + H2C + b"\r\n")) * 5000).count(b"HTTP/1.1 ") < 5000


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_with_http2_at_plain_http_has_its_body_read(server: Running) -> None:
    address = f"http://127.0.0.1:{server.address[1]}/"
    asked = ["curl", "-sS", "--noproxy", "*", "--http2", "--max-time", str(SECONDS), "-d", "12345", address]
    done = subprocess.run(asked, capture_output=True, timeout=2 * SECONDS, check=False)
    assert (done.returncode, done.stdout) == (0, b"5"), done.stderr


def test_the_body_of_a_client_that_waits_for_100_continue_is_waited_for(server: Running) -> None:
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    with server.connected(head) as client:
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"12345")
        assert read_all(client).endswith(b"\r\n5")


def test_connections_that_ask_nothing_make_room_for_others() -> None:
    before = cuts("crowded")
    with serving(Bounds(connections=20)) as server, ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(server.connected(b"GET / HTTP/1.1\r\n"))
        assert server.asked(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        wait_until(lambda: server.open <= 20, "room")
    assert cuts("crowded") >= before + 40


def test_connections_that_are_being_served_do_not_make_room() -> None:
    late = GET.replace(b"/ ", b"/late ", 1)
    with serving(Bounds(connections=5)) as server, ExitStack() as stack:
        clients = [stack.enter_context(server.connected(late)) for _ in range(5)]
        wait_until(lambda: len(server.server.server_state.tasks) == 5, "requests")
        answer = server.asked(GET)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 503 ")
        server.application.may_answer.set()
        assert all(client.recv(100).startswith(b"HTTP/1.1 200 ") for client in clients)


def test_the_metrics_of_a_worker_have_bounds_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "SCRAPE_SECONDS", 1.0)
    port = free_port()
    start_metrics_server("127.0.0.1", port, CollectorRegistry())
    with ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(50)]
        for client in idle:
            client.settimeout(SECONDS)
            client.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).status_code == 200
        assert all(not read_all(client) for client in idle)
    wait_until(lambda: not any("process_request" in one.name for one in threading.enumerate()), "end of all threads")


def test_metrics_say_where_they_cannot_listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            InvalidSetting, match=rf"HOOKLINE_METRICS_PORT: .*127\.0\.0\.1:{port}: Address already in use"
        ):
            start_metrics_server("127.0.0.1", port, CollectorRegistry())
    with pytest.raises(InvalidSetting, match="HOOKLINE_METRICS_HOST"):
        start_metrics_server("nosuch.invalid", port, CollectorRegistry())


def test_no_more_connections_are_held_than_there_are_descriptors_for() -> None:
    settings = load_settings(api_connections=1000, database_connections=40)
    assert possible_connections(settings, 65_536) == 1000
    assert possible_connections(settings, 1024) == 1024 - RESERVED_DESCRIPTORS - 40
    assert possible_connections(settings, 100) == 10
    soft = raise_descriptor_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == soft


FEW_DESCRIPTORS = (
    "import os, sys\nfrom resource import *\nsetrlimit(RLIMIT_NOFILE, (400, 400))\nos.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture
def api(request: pytest.FixtureRequest, valkey_url: str, tmp_path: Path) -> Iterator[tuple[psutil.Process, int, Path]]:
    """`hookline api` as an operator starts it, with 400 descriptors; its port and its log."""
    log = tmp_path / "api.log"
    with migrated_database(request, tmp_path, "sqlite") as url:
        settings = load_settings(
            data_dir=tmp_path,
            redis_url=valkey_url,
            database_url=url,
            secret_keys=Fernet.generate_key().decode(),
            port=free_port(),
            log_format="json",
        )
        command = [sys.executable, "-c", FEW_DESCRIPTORS, sys.executable, "-m", "dispatcher.cli", "api"]
        with running(command, settings, log) as process:
            url = f"http://127.0.0.1:{settings.port}/healthz"
            wait_until(lambda: _is_healthy(url), "API")
            yield psutil.Process(process.pid), settings.port, log


def _is_healthy(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(url, trust_env=False).status_code == 200
    return False


def test_a_header_without_end_takes_no_memory_from_the_api(api: tuple[psutil.Process, int, Path]) -> None:
    process, port, _log = api
    before = process.memory_info().rss
    for begin, piece in ENDLESS.values():
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(begin)
            send_until_refused(client, piece, 40 << 20)
    assert process.memory_info().rss < before + (16 << 20)
    assert _is_healthy(f"http://127.0.0.1:{port}/healthz")


def test_few_descriptors_are_told_and_do_not_silence_the_api(api: tuple[psutil.Process, int, Path]) -> None:
    _process, port, log = api
    assert '"event": "api.few_descriptors"' in log.read_text()
    with ExitStack() as stack:
        for _ in range(600):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with suppress(ConnectionError):
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert _is_healthy(f"http://127.0.0.1:{port}/healthz")
    assert '"event": "api.connection_cut"' in log.read_text()


def test_an_api_without_descriptors_answers_the_health_check_and_a_scrape(
    api: tuple[psutil.Process, int, Path],
) -> None:
    process, port, log = api
    health, metrics = (f"http://127.0.0.1:{port}/{page}" for page in ("healthz", "metrics"))
    taken = {int(one.name) for one in Path(f"/proc/{process.pid}/fd").iterdir()}
    limit = max(taken) + 1  # usually none is left then, however many connections end
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (limit, 400))
    with ExitStack() as stack:

        def told() -> bool:
            # Again and again: all of some are closed while a connection of before ends, which then leaves one free.
            for _ in range(5):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                with suppress(ConnectionError):
                    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
            return '"event": "api.no_descriptors"' in log.read_text()

        wait_until(told, "log line", every_seconds=0.5)
        for _ in range(3):
            wait_until(lambda: _is_healthy(health), "health check")
            wait_until(lambda: f"process_max_fds {limit}.0" in _text(metrics), "scrape")


def _text(url: str) -> str:
    with suppress(httpx.TransportError):
        return httpx.get(url, trust_env=False).text
    return ""
