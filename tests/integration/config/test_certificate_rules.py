"""Who is trusted over TLS: the same with each client of Hookline's, on each Python."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from dispatcher.client.api_client import Client, Unreachable
from shared.config.server_urls import parse_redis
from shared.domain.delivery.outcomes import OutcomeKind
from shared.messaging.celery_app import celery_app
from shared.messaging.redis_clients import connect, connect_async
from shared.settings import load_settings
from tests.authority import Authority
from tests.integration.http.hostile import ANSWER, answering, behaving
from tests.integration.http.sending import opened, send

ROOT = Authority("root")
MIDDLE = Authority("middle", above=ROOT)
STRANGER = Authority("stranger")
SECONDS = 10.0

trusted = pytest.mark.parametrize(
    ("authority", "issuer"),
    [(ROOT, ROOT), (MIDDLE, MIDDLE), (STRANGER, ROOT)],
    ids=["no authority key identifier", "authority in the middle", "a stranger"],
)


def serving(folder: Path, issuer: Authority) -> ssl.SSLContext:
    """What a server on 127.0.0.1 with a certificate of the issuer needs."""
    path = folder / "server.pem"
    path.write_text(issuer.issue("127.0.0.1").pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def written(folder: Path, authority: Authority) -> Path:
    """A file of what is trusted."""
    path = folder / "trusted.pem"
    path.write_text(authority.pem)
    return path


@contextmanager
def one_visit(context: ssl.SSLContext) -> Iterator[tuple[int, list[bool]]]:
    """The port of a server that shakes hands once and hangs up, and whether the client took its certificate."""
    taken: list[bool] = []

    def visited() -> None:
        raw, _ = server.accept()
        server.close()  # who tries again is refused at once
        with raw:
            raw.settimeout(SECONDS)
            try:
                with context.wrap_socket(raw, server_side=True) as line:
                    line.recv(1)  # in TLS 1.3 a client's refusal comes behind the handshake
                taken.append(True)
            except (ssl.SSLError, ConnectionError):
                taken.append(False)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(SECONDS)
        thread = threading.Thread(target=visited)
        thread.start()
        try:
            yield server.getsockname()[1], taken
        finally:
            thread.join()


def ask_redis(port: int, path: Path) -> None:
    client = connect(parse_redis(f"rediss://127.0.0.1:{port}?ssl_ca_certs={path}"), retry=Retry(NoBackoff(), 0))
    try:
        client.ping()
    finally:
        client.close()


def ask_redis_from_a_loop(port: int, path: Path) -> None:
    async def asked() -> None:
        address = parse_redis(f"rediss://127.0.0.1:{port}?ssl_ca_certs={path}")
        client = connect_async(address, retry=AsyncRetry(NoBackoff(), 0))
        try:
            await client.ping()
        finally:
            await client.aclose()

    asyncio.run(asked())


def ask_broker(port: int, path: Path) -> None:
    app = celery_app(load_settings(broker_url=f"rediss://127.0.0.1:{port}?ssl_ca_certs={path}"))
    try:
        with app.connection_for_write() as connection:
            connection.channel()
    finally:
        app.close()


@trusted
@pytest.mark.parametrize("ask", [ask_redis, ask_redis_from_a_loop, ask_broker])
def test_a_redis_is_trusted(
    tmp_path: Path, ask: Callable[[int, Path], None], authority: Authority, issuer: Authority
) -> None:
    with one_visit(serving(tmp_path, issuer)) as (port, taken), suppress(Exception):  # it hangs up on them
        ask(port, written(tmp_path, authority))
    assert taken == [authority is issuer]


@trusted
def test_the_api_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: Authority, issuer: Authority
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(written(tmp_path, authority)))
    with one_visit(serving(tmp_path, issuer)) as (port, taken):
        settings = load_settings(url=f"https://127.0.0.1:{port}", api_key=SecretStr("k"))
        with Client(settings) as client, pytest.raises(Unreachable):  # it hangs up
            client.export("acme")
    assert taken == [authority is issuer]


@trusted
def test_an_endpoint_is_trusted(tmp_path: Path, authority: Authority, issuer: Authority) -> None:
    async def scenario() -> None:
        async with (
            behaving(answering(ANSWER), tls=serving(tmp_path, issuer)) as endpoint,
            opened(ca_bundle=str(written(tmp_path, authority))) as sender,
        ):
            outcome = await send(sender, f"https://127.0.0.1:{endpoint.port}")
        expected = OutcomeKind.SUCCESS if authority is issuer else OutcomeKind.NETWORK
        assert outcome.kind is expected, outcome

    asyncio.run(scenario())
