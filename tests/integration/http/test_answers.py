"""What the sender sends, and what it makes of answers, right ones and odd ones."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from shared.domain.delivery.answer_rules import SuccessRule
from shared.domain.delivery.outcomes import OutcomeKind
from shared.http.client import KEPT_RESPONSE_BYTES, MAX_RESPONSE_BYTES
from tests.integration.http.hostile import ANSWER, Visit, answering, behaving
from tests.integration.http.sending import (
    ENOUGH_SECONDS,
    Run,
    gone,
    opened,
    request,
    send,
)


def test_what_goes_over_the_wire(run: Run) -> None:
    async def scenario() -> None:
        async with behaving(answering(ANSWER)) as endpoint, opened() as sender:
            outcome = await send(sender, endpoint, headers={"webhook-id": "dlv_1", "X-Token": "größe"})
            assert (outcome.kind, outcome.status, outcome.response_body) == (OutcomeKind.SUCCESS, 200, "ok")
            assert not outcome.response_truncated
            (raw,) = endpoint.requests
            head, _, body = raw.partition(b"\r\n\r\n")
            first, *headers = head.split(b"\r\n")
            assert first == b"POST /hooks?token=secret-in-query HTTP/1.1"
            assert sorted(line.lower() for line in headers) == sorted(
                [
                    f"host: 127.0.0.1:{endpoint.port}".encode(),
                    b"content-type: application/json",
                    b"authorization: bearer secret-in-header",
                    b"content-length: 25",
                    b"webhook-id: dlv_1",
                    "x-token: größe".encode(),
                ]
            )
            assert body == b'{"key": "secret-in-body"}'

    run(scenario())


def test_a_reason_phrase_may_hold_any_bytes(run: Run) -> None:
    async def scenario() -> None:
        answer = "HTTP/1.1 200 Succès\r\nContent-Length: 2\r\n\r\nok".encode("latin-1")
        async with behaving(answering(answer)) as endpoint, opened() as sender:
            outcome = await send(sender, endpoint)
            assert (outcome.kind, outcome.status, outcome.response_body) == (OutcomeKind.SUCCESS, 200, "ok")

    run(scenario())


def test_what_comes_unasked_is_not_the_next_answer(run: Run) -> None:
    async def scenario() -> None:
        said = asyncio.Event()

        async def behaviour(visit: Visit) -> None:
            await visit.request()
            await visit.say(ANSWER)
            await asyncio.wait_for(said.wait(), ENOUGH_SECONDS)
            await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
            await visit.until_gone()

        async with behaving(behaviour) as endpoint, opened() as sender:
            await send(sender, endpoint)
            said.set()
            await gone(endpoint.visits[0])
            outcome = await send(sender, endpoint)
            assert (outcome.status, outcome.response_body) == (200, "ok")
            assert len(endpoint.visits) == 2

    run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + ANSWER,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("more", [b"HTTP/1.1 500 Oops\r\nRetry-After: 9\r\nContent-Length: 5\r\n\r\nwrong", b"wrong"])
def test_what_comes_unasked_together_with_an_answer_is_no_part_of_it(run: Run, answer: bytes, more: bytes) -> None:
    async def scenario() -> None:
        async with behaving(answering(answer + more)) as endpoint, opened() as sender:
            for _ in range(2):
                outcome = await send(sender, endpoint)
                assert (outcome.kind, outcome.status) == (OutcomeKind.SUCCESS, 200)
                assert (outcome.response_body, outcome.retry_after_seconds) == ("ok", None)
            assert len(endpoint.visits) == 2

    run(scenario())


@pytest.mark.parametrize("news", [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong", b"wrong", b""])
def test_a_connection_is_not_used_again_when_news_wait_on_it(run: Run, news: bytes) -> None:
    async def scenario() -> None:
        async with behaving(answering(ANSWER)) as endpoint, opened() as sender:
            await send(sender, endpoint)
            known = endpoint.visits[0].writer.get_extra_info("socket")
            with socket.socket(fileno=os.dup(known.fileno())) as line:
                # The sender's event loop, which is this one, does not go round before the next request is sent.
                if news:
                    line.send(news)
                else:
                    line.shutdown(socket.SHUT_WR)
                outcome = await send(sender, endpoint)
            assert (outcome.status, outcome.response_body) == (200, "ok")
            assert len(endpoint.visits) == 2

    run(scenario())


def test_a_request_does_not_show_its_secrets() -> None:
    shown = repr(request("http://127.0.0.1"))
    assert "secret-in-header" not in shown
    assert "secret-in-body" not in shown


def test_one_connection_serves_many_requests_in_turn(run: Run) -> None:
    async def scenario() -> None:
        async with behaving(answering(ANSWER)) as endpoint, opened() as sender:
            for _ in range(10):
                assert (await send(sender, endpoint)).kind is OutcomeKind.SUCCESS
            assert [len(visit.requests) for visit in endpoint.visits] == [10]

    run(scenario())


def test_requests_at_the_same_time_have_connections_of_their_own(run: Run) -> None:
    async def scenario() -> None:
        arrived = asyncio.Semaphore(0)
        everyone = asyncio.Event()

        async def behaviour(visit: Visit) -> None:
            await visit.request()
            arrived.release()
            await everyone.wait()
            await visit.say(ANSWER)
            await visit.until_gone()

        async with behaving(behaviour) as endpoint, opened() as sender:
            sending = [asyncio.create_task(send(sender, endpoint)) for _ in range(150)]
            for _ in sending:
                await asyncio.wait_for(arrived.acquire(), ENOUGH_SECONDS)
            everyone.set()
            assert {outcome.kind for outcome in await asyncio.gather(*sending)} == {OutcomeKind.SUCCESS}
            assert len(endpoint.visits) == 150

    run(scenario())


def test_closing_lets_every_connection_go(run: Run) -> None:
    async def scenario() -> None:
        async with behaving(answering(ANSWER)) as endpoint:
            async with opened() as sender:
                await asyncio.gather(*(send(sender, endpoint) for _ in range(3)))
                assert not any(visit.gone.is_set() for visit in endpoint.visits)
            for visit in endpoint.visits:
                await gone(visit)
            outcome = await send(sender, endpoint)
            assert outcome.kind is OutcomeKind.INTERNAL
        async with opened():
            pass  # a sender that never sent

    run(scenario())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("201 Created", OutcomeKind.SUCCESS),
        ("301 Moved", OutcomeKind.REDIRECTION),
        ("307 Temporary Redirect", OutcomeKind.REDIRECTION),
        ("400 Bad Request", OutcomeKind.CLIENT_ERROR),
        ("410 Gone", OutcomeKind.CLIENT_ERROR),
        ("500 Oops", OutcomeKind.SERVER_ERROR),
        ("999 Odd", OutcomeKind.SERVER_ERROR),
    ],
)
def test_a_status_decides_and_a_redirect_is_not_followed(run: Run, status: str, kind: OutcomeKind) -> None:
    async def scenario() -> None:
        async with behaving(answering(ANSWER)) as elsewhere:
            location = f"Location: http://127.0.0.1:{elsewhere.port}/\r\nSet-Cookie: session=1\r\n"
            answer = f"HTTP/1.1 {status}\r\n{location}Content-Length: 3\r\n\r\nbad".encode()
            async with behaving(answering(answer)) as endpoint, opened() as sender:
                outcome = await send(sender, endpoint)
                assert (outcome.kind, outcome.status, outcome.response_body) == (kind, int(status[:3]), "bad")
                await send(sender, endpoint)
                assert elsewhere.visits == []
                assert not any(b"cookie" in raw.lower() for raw in endpoint.requests)
                assert len(endpoint.visits) == 1

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ANSWER, 200, "ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", 200, "ok"),
        (b"HTTP/1.1 200 OK\r\nX-Odd: gr\xf6\xdfe \xff\r\nContent-Length: 4\r\n\r\n\xff\x00\xc3\xb6", 200, "��ö"),
        (b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 200, ""),
    ],
)
def test_answers_that_are_odd_but_right_keep_the_connection(run: Run, answer: bytes, status: int, body: str) -> None:
    async def scenario() -> None:
        async with behaving(answering(answer)) as endpoint, opened() as sender:
            for _ in range(2):
                outcome = await send(sender, endpoint)
                assert (outcome.kind, outcome.status) == (OutcomeKind.SUCCESS, status)
                assert outcome.response_body == body
            assert len(endpoint.visits) == 1

    run(scenario())


def test_a_body_without_length_ends_with_the_connection(run: Run) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.0 200 OK\r\n\r\nall of it")

    async def scenario() -> None:
        async with behaving(behaviour) as endpoint, opened() as sender:
            for _ in range(2):
                outcome = await send(sender, endpoint)
                assert (outcome.kind, outcome.response_body) == (OutcomeKind.SUCCESS, "all of it")

    run(scenario())


def test_a_compressed_body_is_kept_as_it_came(run: Run) -> None:
    packed = gzip.compress(b"x" * (64 << 20))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()

    async def scenario() -> None:
        async with behaving(answering(head + packed)) as endpoint, opened() as sender:
            outcome = await send(sender, endpoint)
            assert outcome.kind is OutcomeKind.SUCCESS
            expected = packed[:KEPT_RESPONSE_BYTES].decode("utf-8", "replace").replace("\0", "�")
            assert outcome.response_body == expected
            assert outcome.response_truncated

    run(scenario())


@pytest.mark.parametrize("size", [KEPT_RESPONSE_BYTES, KEPT_RESPONSE_BYTES + 1, MAX_RESPONSE_BYTES - 1])
def test_a_body_is_read_to_a_bound_and_less_is_kept(run: Run, size: int) -> None:
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode() + b"x" * size

    async def scenario() -> None:
        async with behaving(answering(answer)) as endpoint, opened() as sender:
            for _ in range(2):
                outcome = await send(sender, endpoint)
                assert outcome.response_body == "x" * min(size, KEPT_RESPONSE_BYTES)
                assert outcome.response_truncated is (size > KEPT_RESPONSE_BYTES)
            assert len(endpoint.visits) == 1

    run(scenario())


@pytest.mark.parametrize("framing", [b"Content-Length: 1000000000000", b"Transfer-Encoding: chunked", b"X: y"])
def test_an_endless_body_is_left_and_its_connection_is_not_used_again(run: Run, framing: bytes) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        while True:
            await visit.say(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")

    async def scenario() -> None:
        async with behaving(behaviour) as endpoint, opened() as sender:
            for number in range(1, 3):
                outcome = await send(sender, endpoint)
                assert (outcome.kind, outcome.status) == (OutcomeKind.SUCCESS, 200)
                assert len(outcome.response_body) == KEPT_RESPONSE_BYTES
                assert outcome.response_truncated
                await gone(endpoint.visits[-1])
                assert len(endpoint.visits) == number
            # What the sockets on the way hold, and not what an endless body would come to.
            assert all(visit.sent_bytes < 32 << 20 for visit in endpoint.visits)

    run(scenario())


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_read_in_both_forms(run: Run, form: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=120), usegmt=True)
    retry_after = "120" if form == "seconds" else date
    answer = f"HTTP/1.1 429 Slow Down\r\nRetry-After: {retry_after}\r\nContent-Length: 0\r\n\r\n".encode()

    async def scenario() -> None:
        async with behaving(answering(answer)) as endpoint, opened() as sender:
            outcome = await send(sender, endpoint)
            assert (outcome.kind, outcome.status) == (OutcomeKind.CLIENT_ERROR, 429)
            assert outcome.retry_after_seconds is not None
            assert 0 < outcome.retry_after_seconds <= 120

    run(scenario())


@pytest.mark.parametrize("retry_after", ["soon", "-5", "1, 2", "99999999999999999999", "\xff", ""])
def test_a_retry_after_that_says_nothing_does_no_harm(run: Run, retry_after: str) -> None:
    answer = b"HTTP/1.1 503 No\r\nRetry-After: " + retry_after.encode("latin-1") + b"\r\nContent-Length: 0\r\n\r\n"

    async def scenario() -> None:
        async with behaving(answering(answer)) as endpoint, opened() as sender:
            outcome = await send(sender, endpoint)
            assert outcome.kind is OutcomeKind.SERVER_ERROR
            assert outcome.retry_after_seconds in (None, 366 * 86400.0)

    run(scenario())


def test_a_success_rule_judges_when_it_is_its_webhooks_turn(run: Run) -> None:
    async def scenario() -> None:
        async with behaving(answering(ANSWER)) as endpoint, opened() as sender:
            asked: list[str] = []

            async def judged(webhook: str, judge: Callable[[], Any]) -> Any:
                asked.append(webhook)
                return judge()

            sender._turns.judged = judged  # type: ignore[method-assign]
            for body, kind in (({"$contains": "ok"}, OutcomeKind.SUCCESS), ({"ok": 1}, OutcomeKind.UNSUCCESSFUL)):
                plain = request(f"http://127.0.0.1:{endpoint.port}")
                outcome = await sender.send(replace(plain, webhook="wh_7", success=SuccessRule(body=body)))
                assert outcome.kind is kind
            assert (await send(sender, endpoint)).kind is OutcomeKind.SUCCESS
            assert asked == ["wh_7", "wh_7"]

    run(scenario())
