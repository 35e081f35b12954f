"""What the sender finds out about a request on its way: sizes, headers, the connection and how long each step took."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shared.domain.delivery.exchange import Exchange
from shared.domain.delivery.outcomes import Outcome, OutcomeKind
from shared.http.client import KEPT_EACH
from shared.http.connection import KEPT_HEADER_BYTES
from tests.integration.http.hostile import Visit, answering, behaving
from tests.integration.http.sending import SOON_SECONDS, Run, opened, request, send
from tests.integration.http.test_egress import resolving
from tests.integration.http.test_tls import Trust, certificate, serving, trust

__all__ = ["trust"]

ANSWER = b"HTTP/1.1 200 OK\r\nX-Id: 1\r\nset-cookie: session=canary\r\nX-Id: 2\r\nContent-Length: 2\r\n\r\nok"


def exchange(outcome: Outcome) -> Exchange:
    assert outcome.exchange is not None
    return outcome.exchange


def test_the_second_request_goes_over_the_connection_of_the_first(run: Run) -> None:
    async def scenario() -> None:
        async with behaving(answering(ANSWER)) as endpoint, opened() as sender:
            first, second = [exchange(await send(sender, endpoint)) for _ in range(2)]
            assert [first.sent_bytes, second.sent_bytes] == [len(one) for one in endpoint.requests]
            for one in (first, second):
                assert one.answer_headers == "X-Id: 1\nX-Id: 2\nContent-Length: 2", "cookies are left out"
                assert (one.received_bytes, one.headers_truncated) == (len(ANSWER), False)
                assert (one.remote_address, one.tls_version) == (f"127.0.0.1:{endpoint.port}", None)
                assert one.lookup_seconds is None
                assert one.handshake_seconds is None
                assert one.first_byte_seconds is not None
                assert one.first_byte_seconds >= 0
            assert first.connect_seconds is not None
            assert (first.reused, second.reused, second.connect_seconds) == (False, True, None)

    run(scenario())


def test_tls_and_a_name_take_their_time(
    run: Run, tmp_path: Path, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path)
    trust(path)
    resolving(monkeypatch, "127.0.0.1")

    async def scenario() -> None:
        async with behaving(answering(ANSWER), tls=serving(path)) as endpoint, opened() as sender:
            url = f"https://127.0.0.1:{endpoint.port}"
            first, second = [exchange(await send(sender, url)) for _ in range(2)]
            named = exchange(await send(sender, f"https://hook.example:{endpoint.port}"))
        assert first.tls_version == second.tls_version == "TLSv1.3"
        assert first.handshake_seconds is not None
        assert second.handshake_seconds is None
        assert named.lookup_seconds is not None
        assert named.connect_seconds is not None
        assert (named.remote_address, named.tls_version) == (f"127.0.0.1:{endpoint.port}", None), "not trusted"
        assert named.sent_bytes == 0

    run(scenario())


def test_a_failure_shows_how_far_it_came(run: Run) -> None:
    async def silent(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\n")
        await visit.until_gone()

    async def scenario() -> None:
        async with behaving(silent) as endpoint, opened() as sender:
            late = await send(sender, endpoint, within=SOON_SECONDS)
        async with opened() as sender:
            refused = await send(sender, f"http://127.0.0.1:{endpoint.port}")
            blocked = await send(sender, "http://10.0.0.1")
        assert (late.kind, exchange(late).sent_bytes > 0) == (OutcomeKind.TIMEOUT, True)
        assert exchange(late).first_byte_seconds is not None
        assert refused.kind is OutcomeKind.NETWORK
        assert exchange(refused) == Exchange(remote_address=f"127.0.0.1:{endpoint.port}")
        assert blocked.kind is OutcomeKind.BLOCKED
        assert exchange(blocked) == Exchange(), "where a name leads that may not be reached is told to nobody"

    run(scenario())


def test_many_headers_are_kept_in_part_and_those_of_an_interim_answer_are_none(run: Run) -> None:
    many = b"".join(b"X-%d: %b\r\n" % (number, b"x" * 1000) for number in range(20))
    interim = b"HTTP/1.1 103 Early Hints\r\n" + many + b"\r\n"
    final = b"HTTP/1.1 204 No Content\r\n" + many + b"\r\n"

    async def scenario() -> None:
        async with behaving(answering(interim + ANSWER, final)) as endpoint, opened() as sender:
            first, second = [exchange(await send(sender, endpoint)) for _ in range(2)]
        assert first.answer_headers == "X-Id: 1\nX-Id: 2\nContent-Length: 2"
        assert first.received_bytes == len(interim) + len(ANSWER)
        assert second.headers_truncated
        assert KEPT_HEADER_BYTES - 1100 < len(second.answer_headers) <= KEPT_HEADER_BYTES + 100

    run(scenario())


def test_of_usual_successes_the_first_and_each_sixteenth_have_an_exchange(run: Run) -> None:
    broken = ANSWER.replace(b"200 OK", b"500 No")
    answers = [ANSWER] * (KEPT_EACH + 1) + [broken, ANSWER]

    async def scenario() -> None:
        async with behaving(answering(*answers)) as endpoint, opened() as sender:
            asked = replace(request(f"http://127.0.0.1:{endpoint.port}"), keep_exchange=False)
            found = [await sender.send(asked) for _ in range(KEPT_EACH + 2)]
            found.append(await sender.send(replace(asked, keep_exchange=True)))
        kept = [number for number, one in enumerate(found) if one.exchange is not None]
        assert kept == [0, KEPT_EACH, KEPT_EACH + 1, KEPT_EACH + 2]
        assert [exchange(found[number]).reused for number in kept] == [False, True, True, True]

    run(scenario())
