"""Mutual TLS: the endpoint sees each webhook's own certificate, over connections that no other webhook uses."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.domain.delivery.outcomes import Outcome, OutcomeKind
from shared.http.client import WebhookClient
from tests.authority import Authority, Issued
from tests.integration.http.hostile import ANSWER, Endpoint, Visit, behaving
from tests.integration.http.sending import Run, opened, request

AUTHORITY = Authority()
ONE, TWO = AUTHORITY.issue("one"), AUTHORITY.issue("two")
OTHERS = Authority("Somebody else").issue("one")


def demanding(folder: Path, *, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """The TLS of a server that lets nobody in without a certificate of the authority."""
    pem = folder / "server.pem"
    pem.write_text(AUTHORITY.issue("127.0.0.1").pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = version
    context.load_cert_chain(pem)
    context.load_verify_locations(cadata=AUTHORITY.pem)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def named(visit: Visit) -> None:
    """Answers each request with the number of the connection's requests and whose certificate was shown."""
    certificate: Any = visit.writer.get_extra_info("peercert")
    name = dict(part for (part,) in certificate["subject"])["commonName"]
    while True:
        await visit.request()
        body = f"{name} {len(visit.requests)}".encode()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


Post = Callable[[int | None, Issued | None], Awaitable[Outcome]]


def with_server(
    run: Run,
    folder: Path,
    scenario: Callable[[Endpoint, Post], Awaitable[None]],
    *,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> None:
    """Run a scenario that posts to an endpoint with a webhook's certificate, or without any."""
    (folder / "authority.pem").write_text(AUTHORITY.pem)

    async def whole() -> None:
        async with (
            behaving(named, tls=demanding(folder, version=version)) as endpoint,
            opened(ca_bundle=str(folder / "authority.pem")) as sender,
        ):

            async def post(webhook_id: int | None, issued: Issued | None) -> Outcome:
                plain = request(f"https://127.0.0.1:{endpoint.port}")
                return await sender.send(replace(plain, tls=_context(sender, webhook_id, issued)))

            await scenario(endpoint, post)

    run(whole())


def _context(sender: WebhookClient, webhook_id: int | None, issued: Issued | None) -> ssl.SSLContext | None:
    if webhook_id is None or issued is None:
        return None
    return sender.contexts.with_certificate(webhook_id, issued.pem)


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
def test_each_webhook_shows_its_own_certificate_on_its_own_connection(
    run: Run, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    async def scenario(endpoint: Endpoint, post: Post) -> None:
        turns = [(1, ONE), (2, TWO), (1, ONE), (3, ONE), (2, TWO), (3, ONE)]
        answers = [(await post(webhook_id, issued)).response_body for webhook_id, issued in turns]
        # The third webhook has the certificate of the first, and yet a connection of its own.
        assert answers == ["one 1", "two 1", "one 2", "one 1", "two 2", "one 2"]
        assert len(endpoint.visits) == 3

    with_server(run, tmp_path, scenario, version=version)


@pytest.mark.parametrize("version", VERSIONS)
def test_who_shows_none_or_anothers_gets_no_answer_and_never_a_connection_with_one(
    run: Run, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    async def scenario(endpoint: Endpoint, post: Post) -> None:
        assert (await post(1, ONE)).kind is OutcomeKind.SUCCESS
        for webhook_id, issued in ((None, None), (2, OTHERS)):
            outcome = await post(webhook_id, issued)
            assert outcome.kind is OutcomeKind.NETWORK
            # Whether the server's reason gets through before its good-bye is up to the event loops.
            assert outcome.error is not None
            assert outcome.error.startswith(("TLS failed: ", "the endpoint closed the connection")), outcome.error
        assert len(endpoint.requests) == 1
        assert (await post(1, ONE)).response_body == "one 2"

    with_server(run, tmp_path, scenario, version=version)


def test_a_replaced_certificate_is_shown_at_once(run: Run, tmp_path: Path) -> None:
    async def scenario(_endpoint: Endpoint, post: Post) -> None:
        assert (await post(1, ONE)).response_body == "one 1"
        assert (await post(1, TWO)).response_body == "two 1"

    with_server(run, tmp_path, scenario)


def test_many_webhooks_at_once_are_never_mixed_up(run: Run, tmp_path: Path) -> None:
    async def scenario(endpoint: Endpoint, post: Post) -> None:
        issued = {number: ONE if number % 2 else TWO for number in range(6)}
        turns = [number for _ in range(10) for number in issued]
        outcomes = await asyncio.gather(*(post(number, issued[number]) for number in turns))
        names = [outcome.response_body.split()[0] for outcome in outcomes]
        assert names == ["one" if number % 2 else "two" for number in turns]
        assert len(endpoint.visits) <= len(turns)

    with_server(run, tmp_path, scenario)


def test_an_endpoint_of_the_bundles_authority_is_trusted_without_a_certificate_of_ones_own(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "authority.pem").write_text(AUTHORITY.pem)
    (tmp_path / "server.pem").write_text(AUTHORITY.issue("127.0.0.1").pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "server.pem")

    async def answering(visit: Visit) -> None:
        await visit.request()
        await visit.say(ANSWER)

    async def scenario() -> None:
        async with behaving(answering, tls=server) as endpoint:
            url = f"https://127.0.0.1:{endpoint.port}"
            async with opened(ca_bundle=str(tmp_path / "authority.pem")) as sender:
                assert (await sender.send(request(url))).kind is OutcomeKind.SUCCESS
            async with opened() as stranger:
                refused = await stranger.send(request(url))
            assert refused.error == "the endpoint's certificate is not trusted: unable to get local issuer certificate"
            assert len(endpoint.requests) == 1

    run(scenario())
