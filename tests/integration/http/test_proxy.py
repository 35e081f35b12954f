"""Requests through an egress proxy: tunnels for https and http, the guard before them, and failures that name it."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from shared.domain.delivery.diagnosis import Credentials, diagnose
from shared.domain.delivery.outcomes import FailureCause, Outcome, OutcomeKind
from shared.http.client import WebhookClient
from tests.authority import Authority
from tests.faults.network import impossible, network
from tests.integration.http.connect_proxy import Proxy, proxying
from tests.integration.http.hostile import ANSWER, Behaviour, Endpoint, Visit, answering, behaving
from tests.integration.http.sending import Run, opened, request, send
from tests.integration.http.test_egress import resolving

AUTHORITY = Authority()
NAME = "endpoint.test"
"""No name that anybody here can resolve (RFC 6761); the proxy can."""
LOGIN = "proxy-user:pr%xy/p@ss"
ENCODED = "proxy-user:pr%25xy%2Fp%40ss"


def serving(tmp_path: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    path = tmp_path / f"{name}.pem"
    path.write_text(AUTHORITY.issue(name).pem)
    context.load_cert_chain(path)
    return context


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """What the sender trusts."""
    path = tmp_path / "authority.pem"
    path.write_text(AUTHORITY.pem)
    return path


Opened = Callable[..., AbstractAsyncContextManager[WebhookClient]]


@pytest.fixture
def through(bundle: Path) -> Opened:
    """Opens a sender that goes through a proxy."""

    def make(proxy: Proxy, *, tls: bool = False, login: str = "", **others: Any) -> Any:
        scheme, at = ("https" if tls else "http"), f"{login}@" if login else ""
        url = f"{scheme}://{at}127.0.0.1:{proxy.port}"
        return opened(**{"ca_bundle": bundle, "egress_no_proxy": "", "egress_proxy": url, **others})

    return make


def told(outcome: Outcome) -> str:
    return diagnose(outcome, Credentials(has_access_token=False, has_signing_secret=False))


@pytest.mark.parametrize("proxy_tls", [False, True])
def test_https_goes_through_one_tunnel_that_is_kept(run: Run, tmp_path: Path, through: Opened, proxy_tls: bool) -> None:
    own = serving(tmp_path, "127.0.0.1") if proxy_tls else None

    async def scenario() -> None:
        async with behaving(answering(ANSWER), tls=serving(tmp_path, NAME)) as endpoint:
            places = {f"{NAME}:443": ("127.0.0.1", endpoint.port)}
            async with proxying(tls=own, places=places) as proxy, through(proxy, tls=proxy_tls) as sender:
                for _ in range(3):
                    outcome = await send(sender, f"https://{NAME}")
                    assert (outcome.kind, outcome.response_body) == (OutcomeKind.SUCCESS, "ok"), outcome.error
                assert proxy.asked == [f"{NAME}:443"]
                assert len(endpoint.requests) == 3
                assert b"secret-in" not in b"".join(proxy.heads)
                assert b"Proxy-" not in b"".join(endpoint.requests)

    run(scenario())


@pytest.mark.parametrize("proxy_tls", [False, True])
def test_plain_http_goes_through_a_tunnel_too(run: Run, tmp_path: Path, through: Opened, proxy_tls: bool) -> None:
    own = serving(tmp_path, "127.0.0.1") if proxy_tls else None

    async def scenario() -> None:
        async with behaving(answering(ANSWER)) as endpoint:
            places = {f"{NAME}:80": ("127.0.0.1", endpoint.port)}
            async with proxying(tls=own, places=places) as proxy:
                async with through(proxy, tls=proxy_tls, allow_http=True) as sender:
                    for _ in range(2):
                        assert (await send(sender, f"http://{NAME}")).kind is OutcomeKind.SUCCESS
                assert proxy.asked == [f"{NAME}:80"]

    run(scenario())


def test_the_password_is_sent_to_the_proxy_and_shown_nowhere(run: Run, through: Opened) -> None:
    async def scenario() -> None:
        async with behaving(answering(ANSWER)) as endpoint, proxying(login=LOGIN) as proxy:
            url = f"http://127.0.0.1:{endpoint.port}"
            async with through(proxy, login=ENCODED) as sender:
                assert (await send(sender, url)).kind is OutcomeKind.SUCCESS
            for login in ("", "proxy-user:wrong-pässword"):
                with capture_logs() as logs:
                    async with through(proxy, login=login) as sender:
                        outcome = await send(sender, url)
                assert outcome.cause is FailureCause.PROXY_REFUSED
                name = f"127.0.0.1:{proxy.port}"
                assert outcome.error == f"the egress proxy {name} gave no tunnel to the endpoint: it answered 407"
                assert "HOOKLINE_EGRESS_PROXY" in told(outcome) and name in told(outcome)
                assert "wrong" not in f"{outcome} {told(outcome)}".replace("may be wrong", "")
                assert "pässword" not in str(logs)
            assert len(endpoint.requests) == 1

    run(scenario())


@pytest.mark.parametrize("status", [403, 502, 503, 302])
def test_a_proxy_that_refuses_is_no_answer_of_the_endpoint(run: Run, through: Opened, status: int) -> None:
    async def scenario() -> None:
        async with proxying() as proxy:
            proxy.refusal = status
            async with through(proxy) as sender:
                outcome = await send(sender, f"https://{NAME}")
            assert (outcome.kind, outcome.status) == (OutcomeKind.NETWORK, None)
            assert outcome.cause is FailureCause.PROXY_REFUSED
            assert f"it answered {status}" in str(outcome.error)

    run(scenario())


def test_a_proxy_that_is_not_there_is_named(run: Run, through: Opened) -> None:
    async def scenario() -> None:
        async with proxying() as proxy:
            pass
        async with through(proxy) as sender:
            outcome = await send(sender, f"https://{NAME}")
        assert outcome.cause is FailureCause.PROXY_UNREACHABLE
        assert outcome.error == f"the egress proxy 127.0.0.1:{proxy.port} can't be used: no connection to it"
        assert f"127.0.0.1:{proxy.port}" in told(outcome)
        async with opened(egress_proxy="http://proxy.test:3128", egress_no_proxy="") as sender:
            outcome = await send(sender, f"https://{NAME}")
        assert outcome.error == "the egress proxy proxy.test:3128 can't be used: its name does not resolve"

    run(scenario())


def saying(text: bytes) -> Behaviour:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(text)
        await visit.until_gone()

    return behaviour


@pytest.mark.parametrize(
    "text",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nunasked",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000,
        b"\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
    ],
)
def test_what_is_no_answer_to_connect_is_no_tunnel(run: Run, through: Opened, text: bytes) -> None:
    async def scenario() -> None:
        async with behaving(saying(text)) as place:
            async with through(Proxy(place.port)) as sender:
                outcome = await send(sender, f"https://{NAME}")
            assert outcome.cause is FailureCause.PROXY_UNREACHABLE, outcome
            assert "closed the connection" in str(outcome.error)

    run(scenario())


def test_a_proxy_that_says_nothing_takes_no_longer_than_connecting_may(run: Run, through: Opened) -> None:
    async def scenario() -> None:
        async with behaving(Visit.until_gone) as place, through(Proxy(place.port)) as sender:
            outcome = await sender.send(request(f"https://{NAME}", connect=0.4))
            assert outcome.cause is FailureCause.CONNECT_TIMEOUT
            assert f"The request went through the egress proxy 127.0.0.1:{place.port}" in told(outcome)
            assert "HOOKLINE_EGRESS_PROXY" not in told(outcome)

    run(scenario())


def test_tls_is_with_the_endpoint_itself(run: Run, tmp_path: Path, through: Opened) -> None:
    """A proxy that leads somewhere else is found out by the certificate."""

    async def scenario() -> None:
        async with behaving(answering(ANSWER), tls=serving(tmp_path, "other.test")) as endpoint:
            places = {f"{NAME}:443": ("127.0.0.1", endpoint.port)}
            async with proxying(places=places) as proxy, through(proxy) as sender:
                outcome = await send(sender, f"https://{NAME}")
            assert outcome.cause is FailureCause.CERTIFICATE_HOST_MISMATCH
            assert "went through the egress proxy" in told(outcome)
            assert endpoint.requests == []

    run(scenario())


@pytest.mark.parametrize(
    ("url", "addresses", "words"),
    [
        ("https://10.0.0.1", (), "not a public address"),
        ("https://[::1]", (), "not a public address"),
        ("https://169.254.169.254", (), "not a public address"),
        ("https://internal.example", ("10.0.0.1",), "not a public address"),
        ("https://mixed.example", ("93.184.215.14", "10.0.0.1"), "not a public address"),
        ("https://mixed.example", ("93.184.215.14", "::1"), "not a public address"),
        ("https://endpoint.test:25", (), "port 25"),
        ("http://endpoint.test", (), "HOOKLINE_ALLOW_HTTP"),
        ("http://public.example", ("93.184.215.14",), "HOOKLINE_ALLOW_HTTP"),
    ],
)
def test_the_guard_judges_before_the_proxy_is_asked(
    run: Run, through: Opened, monkeypatch: pytest.MonkeyPatch, url: str, addresses: tuple[str, ...], words: str
) -> None:
    if addresses:
        resolving(monkeypatch, *addresses)

    async def scenario() -> None:
        async with proxying() as proxy, through(proxy) as sender:
            outcome = await send(sender, url)
            assert outcome.kind is OutcomeKind.BLOCKED, outcome
            assert words in str(outcome.error)
            assert proxy.asked == []

    run(scenario())


def test_some_endpoints_are_reached_without_the_proxy(
    run: Run, through: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with behaving(answering(ANSWER)) as endpoint, proxying() as proxy:
            url = f"http://127.0.0.1:{endpoint.port}"
            for without in ("127.0.0.0/8", f"127.0.0.1:{endpoint.port}", "*", "other.example, 127.0.0.1"):
                async with through(proxy, egress_no_proxy=without) as sender:
                    assert (await send(sender, url)).kind is OutcomeKind.SUCCESS
            monkeypatch.setenv("NO_PROXY", "127.0.0.1,what is this?")
            async with through(proxy, egress_no_proxy=None) as sender:
                assert (await send(sender, url)).kind is OutcomeKind.SUCCESS
            assert proxy.asked == []
            async with through(proxy, egress_no_proxy="127.0.0.2,example.com,127.0.0.1:1") as sender:
                assert (await send(sender, url)).kind is OutcomeKind.SUCCESS
            assert proxy.asked == [f"127.0.0.1:{endpoint.port}"]

    run(scenario())


@pytest.mark.skipif(impossible() is not None, reason=f"no network namespaces: {impossible()}")
def test_from_a_host_without_a_way_out_only_the_proxy_leads_to_the_endpoint(tmp_path: Path, bundle: Path) -> None:
    """Two hosts: one has no route but to the other, on which the proxy is, and the endpoint behind it."""
    ready, done = threading.Event(), threading.Event()
    found: dict[str, Any] = {}

    async def outside() -> None:
        async with behaving(answering(ANSWER), tls=serving(tmp_path, NAME)) as endpoint:
            places = {f"{NAME}:443": ("127.0.0.1", endpoint.port)}
            async with proxying(host=found["address"], places=places, login=LOGIN) as proxy:
                found.update(proxy=proxy, endpoint=endpoint)
                ready.set()
                await asyncio.to_thread(done.wait, 60)

    async def proxied(url: str) -> Outcome:
        async with opened(allowed="", ca_bundle=bundle, egress_no_proxy="", egress_proxy=url) as sender:
            return await send(sender, f"https://{NAME}")

    async def direct() -> list[Outcome]:
        async with opened(allowed="", ca_bundle=bundle) as sender:
            return [await send(sender, url) for url in ("https://93.184.215.14", f"https://{NAME}")]

    with network(("sender", "proxy")) as hosts:
        there = hosts.hosts["proxy"]
        found["address"] = there.address

        def serve() -> None:
            with there.inside():
                asyncio.run(outside())

        server = threading.Thread(target=serve)
        server.start()
        try:
            assert ready.wait(60)
            proxy, endpoint = found["proxy"], found["endpoint"]
            assert isinstance(endpoint, Endpoint)
            outcomes: list[Outcome] = []

            def try_it() -> None:
                with hosts.hosts["sender"].inside():
                    outcomes.extend(asyncio.run(direct()))
                    outcomes.append(asyncio.run(proxied(f"http://{ENCODED}@{there.address}:{proxy.port}")))

            sender = threading.Thread(target=try_it)
            sender.start()
            sender.join(60)
        finally:
            done.set()
            server.join(60)
    no_route, no_name, through_it = outcomes
    assert no_route.cause is FailureCause.NO_ROUTE
    assert no_name.cause is FailureCause.NAME_NOT_RESOLVED
    for outcome in (no_route, no_name):
        assert "an operator of Hookline can set HOOKLINE_EGRESS_PROXY" in told(outcome)
    assert (through_it.kind, through_it.response_body) == (OutcomeKind.SUCCESS, "ok"), through_it
    assert proxy.asked == [f"{NAME}:443"]
    assert len(endpoint.requests) == 1
