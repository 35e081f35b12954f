"""Which addresses the sender connects to, whatever a URL says and whatever a name resolves to."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from shared.domain.delivery.outcomes import Outcome, OutcomeKind
from shared.domain.errors import InvalidDefinition
from shared.http import dns, pool
from shared.http.request import check_target
from tests.integration.http.hostile import ANSWER, answering, behaving
from tests.integration.http.sending import (
    ENOUGH_SECONDS,
    SOON_SECONDS,
    TOO_LATE,
    Run,
    check,
    opened,
    send,
)


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name resolve to these addresses."""

    async def resolve(_host: str, port: int) -> list[dns.AddressInfo]:
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (address, port, 0, 0) if ":" in address else (address, port),
            )
            for address in addresses
        ]

    monkeypatch.setattr(dns, "resolve", resolve)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "http://",
        "http://[::1",
        "http://①②⑦.0.0.1",
        "http://xn--a.com",
        "ftp://127.0.0.1",
        "http://h:99999",
        "http://h:0",
        "http://\ud800",
    ],
)
def test_a_url_that_is_none_blames_no_endpoint(run: Run, url: str) -> None:
    with pytest.raises(InvalidDefinition):
        check_target(url)

    async def scenario() -> None:
        async with opened() as sender:
            outcome = await send(sender, url)
            assert outcome.kind is OutcomeKind.INTERNAL
            assert outcome.error is not None
            assert outcome.error.startswith("a fault in Hookline, not in the endpoint (")

    run(scenario())


@pytest.mark.parametrize("host", [f"{'a' * 64}.example", "a..b", ".a"])
def test_what_can_be_no_name_does_not_resolve(run: Run, host: str) -> None:
    check_target(f"http://{host}")
    check(
        run,
        _sent(f"http://{host}"),
        OutcomeKind.NETWORK,
        "the host's name does not resolve: Name or service not known",
    )


async def _sent(url: str) -> Outcome:
    async with opened() as sender:
        return await send(sender, url)


@pytest.mark.parametrize(
    "addresses",
    [["169.254.169.254"], ["10.0.0.1", "::1"], ["::ffff:169.254.169.254"], ["64:ff9b::a00:1", "fe80::1", "0.0.0.0"]],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_name_that_resolves_to_a_blocked_address(
    run: Run, monkeypatch: pytest.MonkeyPatch, scheme: str, addresses: list[str]
) -> None:
    resolving(monkeypatch, *addresses)

    async def scenario() -> None:
        async with opened(allow_http=True) as sender:
            outcome = await send(sender, f"{scheme}://hook.example")
            assert outcome.kind is OutcomeKind.BLOCKED
            assert outcome.error is not None
            assert outcome.error.endswith(" is not a public address, and HOOKLINE_ALLOWED_NETWORKS does not allow it")

    run(scenario())


@pytest.mark.parametrize("host", ["169.254.169.254", "[::1]", "10.0.0.1", "0x7f.1", "[fe80::1%25lo]"])
@pytest.mark.parametrize("scheme", ["http", "https", "HTTPS"])
def test_an_address_that_is_blocked_however_it_is_written(run: Run, scheme: str, host: str) -> None:
    async def scenario() -> None:
        async with opened("192.168.0.0/16", allow_http=True) as sender:
            outcome = await send(sender, f"{scheme}://{host}")
            assert outcome.kind is OutcomeKind.BLOCKED, outcome.error

    run(scenario())


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "127.1", "127.0.0.1.", "0x7f000001", "127.0.0.1.nip.io"])
def test_no_spelling_of_an_address_gets_through_to_it(run: Run, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    resolving(monkeypatch, "127.0.0.1")

    async def scenario() -> None:
        async with behaving(answering(ANSWER)) as endpoint, opened("192.168.0.0/16", allow_http=True) as sender:
            outcome = await send(sender, f"http://{host}:{endpoint.port}")
            assert outcome.kind in (OutcomeKind.BLOCKED, OutcomeKind.NETWORK)
            assert endpoint.visits == []

    run(scenario())


def test_of_several_addresses_only_those_that_are_allowed_are_tried(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "10.0.0.1", "169.254.169.254", "127.0.0.1")

    async def scenario() -> None:
        async with behaving(answering(ANSWER)) as endpoint, opened() as sender:
            outcome = await send(sender, f"http://hook.example:{endpoint.port}")
            assert outcome.kind is OutcomeKind.SUCCESS
            assert b"\r\nhost: hook.example:" in endpoint.requests[0].lower()

    run(scenario())


@pytest.mark.parametrize("later", ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
def test_a_name_that_is_bound_anew_is_refused_as_it_is_connected_to(
    run: Run, monkeypatch: pytest.MonkeyPatch, later: str
) -> None:
    """127.0.0.2 stands for a public address: it is open, and 127.0.0.1 is not."""
    answers = iter(["127.0.0.2"])

    async def resolve(_host: str, port: int) -> list[dns.AddressInfo]:
        address = next(answers, later)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        where = (address, port, 0, 0) if ":" in address else (address, port)
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where)]

    monkeypatch.setattr(dns, "resolve", resolve)
    monkeypatch.setattr(dns, "RESOLVED_SECONDS", 0.0)
    monkeypatch.setattr(pool, "KEEPALIVE_SECONDS", 0.0)

    async def scenario() -> None:
        async with behaving(answering(ANSWER)) as inside, opened("127.0.0.2/32") as sender:
            url = f"http://hook.example:{inside.port}"
            # Nothing listens there, which is known only because a connection was tried.
            assert (await send(sender, url)).error == "connection refused"
            for _ in range(3):
                assert (await send(sender, url)).kind is OutcomeKind.BLOCKED
            assert inside.visits == []

    run(scenario())


def test_plain_http_to_a_name_that_resolves_to_a_public_address_needs_permission(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, "8.8.8.8")

    async def outcome() -> Outcome:
        async with opened() as sender:
            return await send(sender, "http://hook.example")

    message = "plain http to this host needs HOOKLINE_ALLOW_HTTP=1 or its address in HOOKLINE_ALLOWED_NETWORKS"
    check(run, outcome(), OutcomeKind.BLOCKED, message)


def test_a_name_that_does_not_resolve(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_args: object, **_kwargs: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(dns, "resolve", resolve)

    async def outcome() -> Outcome:
        async with opened() as sender:
            return await send(sender, "https://hook.example")

    check(run, outcome(), OutcomeKind.NETWORK, "the host's name does not resolve: Name or service not known")


def test_a_resolver_that_hangs_counts_against_the_request_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_args: object, **_kwargs: object) -> list[Any]:
        await asyncio.sleep(ENOUGH_SECONDS)
        return []

    monkeypatch.setattr(dns, "resolve", resolve)

    async def scenario() -> None:
        async with behaving(answering(ANSWER)) as endpoint, opened() as sender:
            hanging = asyncio.create_task(send(sender, "https://hook.example", within=SOON_SECONDS))
            assert (await send(sender, endpoint)).kind is OutcomeKind.SUCCESS
            outcome = await hanging
            assert (outcome.kind, outcome.error) == (OutcomeKind.TIMEOUT, TOO_LATE)

    run(scenario())


def test_no_proxy_of_the_environment_is_used(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with behaving(answering(ANSWER)) as proxy, behaving(answering(ANSWER)) as endpoint:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
                monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{proxy.port}")
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            async with opened() as sender:
                assert (await send(sender, endpoint)).kind is OutcomeKind.SUCCESS
                await send(sender, f"https://127.0.0.1:{endpoint.port}", within=SOON_SECONDS)
            assert proxy.visits == []

    run(scenario())
