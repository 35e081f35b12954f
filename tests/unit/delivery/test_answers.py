"""A member who chooses payloads and endpoints' input, and reads answers, learns no character of a secret from them."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable

import pytest

from shared.delivery.answers import MIN_SECRET_CHARS, mask_outcome, sent_secrets
from shared.domain.delivery.exchange import SHOWN_HEADER_BYTES, Exchange
from shared.domain.delivery.outcomes import Outcome, OutcomeKind
from shared.domain.payloads.masking import CUT_BYTES, LONGEST_CUT_SECRET_BYTES, SHOWN_BYTES
from shared.domain.payloads.sealed import open_payload

KEPT_BYTES = SHOWN_BYTES + CUT_BYTES
DELIVERIES = 10_000
ALPHABET = string.ascii_letters + string.digits + "_.-"


def fastapi(body: bytes) -> bytes:
    """The answer of a FastAPI application to a body that it does not take: it repeats the input."""
    return json.dumps({"detail": [{"type": "missing", "loc": ["body", "x"], "input": json.loads(body)}] * 3}).encode()


def debug_page(body: bytes) -> bytes:
    """A page that shows the body, and then a log line of it."""
    return b"<pre>" + body.replace(b"<", b"&lt;") + b"</pre>" + json.dumps(body.decode()).encode()


def padded(size: int) -> Callable[[bytes], bytes]:
    """An endpoint that repeats the body and fills its answer up to a size."""
    return lambda body: body.ljust(size, b"x")


ENDPOINTS: list[Callable[[bytes], bytes]] = [fastapi, debug_page, bytes]


def shown(payload: str, secrets: dict[str, str], endpoint: Callable[[bytes], bytes]) -> Outcome:
    """What is stored of an endpoint's answer to a payload, as the client and the recorder make it."""
    answer = endpoint(open_payload(payload, secrets))
    kept = answer[:KEPT_BYTES].decode("utf-8", "replace")
    outcome = Outcome(
        kind=OutcomeKind.CLIENT_ERROR,
        status=422,
        response_body=kept,
        response_truncated=len(answer) > KEPT_BYTES,
        duration_seconds=0.0,
    )
    return mask_outcome(outcome, sent_secrets(payload, secrets))


def attempts(known: str, random_: random.Random) -> str:
    """A payload of the attacker's: text so long that guesses stand at, before or after each bound there is."""
    guess = known + random_.choice(ALPHABET)
    bound = random_.choice((SHOWN_BYTES, KEPT_BYTES, KEPT_BYTES - CUT_BYTES, random_.randrange(KEPT_BYTES)))
    lead = "p" * max(0, bound - len(guess) - random_.randrange(40))
    parts = [lead, guess, *random_.choices(("${KEY}", "${OTHER}", guess, "\\\\", "%", "&", "x" * 9), k=3)]
    if random_.random() < 0.3:
        random_.shuffle(parts)
    return json.dumps({"a": "".join(parts).replace("\\\\", "\\"), "b": "${KEY}"})


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_ten_thousand_answers_say_the_same_of_a_right_guess_and_of_a_wrong_one(
    endpoint: Callable[[bytes], bytes],
) -> None:
    random_ = random.Random(endpoint.__name__)
    for _ in range(DELIVERIES // len(ENDPOINTS) + 1):
        length = random_.randrange(MIN_SECRET_CHARS, 40)
        right = "".join(random_.choices(ALPHABET, k=length))
        # The attacker knows a part of it, from none to all but one character, and guesses the next.
        known = right[: random_.randrange(length - 1)]
        other = known + "".join(random_.choices(ALPHABET, k=length - len(known)))
        payload = attempts(known, random_)
        signing = {"OTHER": "an-other-secret", "SIGNING": right}  # granted, but in no payload
        seen = [shown(payload, {**signing, "KEY": value}, endpoint) for value in (right, other)]
        assert seen[0] == seen[1], payload
        assert right not in seen[0].response_body
        assert len(seen[0].response_body.encode()) <= SHOWN_BYTES


def test_a_secret_that_was_not_sent_is_not_looked_for() -> None:
    outcome = shown('{"a": "whsec_c2lnbmluZw"}', {"SIGNING": "whsec_c2lnbmluZw"}, bytes)
    assert outcome.response_body == '{"a": "whsec_c2lnbmluZw"}'


def test_of_a_request_with_a_value_that_can_be_guessed_no_answer_is_shown() -> None:
    outcome = shown('{"a": "${PIN}", "b": "1234 1235"}', {"PIN": "1234"}, bytes)
    assert outcome.response_body == "(not shown: PIN has fewer than 8 characters and could be guessed)"


@pytest.mark.parametrize(
    ("bytes_", "is_shown"), [(LONGEST_CUT_SECRET_BYTES, True), (LONGEST_CUT_SECRET_BYTES + 1, False)]
)
def test_an_answer_that_may_end_within_a_long_secret_is_not_shown(bytes_: int, is_shown: bool) -> None:
    secrets = {"KEY": "k" * bytes_}
    for size in (KEPT_BYTES - 1000, KEPT_BYTES + 1):
        outcome = shown('{"a": "${KEY}"}', secrets, padded(size))
        assert ("***KEY***" in outcome.response_body) is (is_shown or size < KEPT_BYTES)


def test_an_answer_that_would_take_long_to_search_is_not_shown() -> None:
    nested = json.dumps(json.dumps(json.dumps('\n"%20&amp;' * 500))).encode()
    outcome = shown('{"a": "${KEY}"}', {"KEY": "sesame-open"}, lambda _body: nested)
    assert outcome.response_body.startswith("(not shown: it has too many escapes")


def test_what_is_not_shown_is_told() -> None:
    for size, truncated in ((SHOWN_BYTES, False), (SHOWN_BYTES + 1, True), (KEPT_BYTES + 1, True)):
        outcome = shown("{}", {}, padded(size))
        assert (len(outcome.response_body), outcome.response_truncated) == (SHOWN_BYTES, truncated)


def with_headers(lines: str, sent: dict[str, str], *, cut: bool = False) -> tuple[str, bool]:
    """What is stored of the headers of an answer without a body."""
    given = Exchange(answer_headers=lines, headers_truncated=cut)
    outcome = Outcome(kind=OutcomeKind.SUCCESS, status=204, duration_seconds=0.0, exchange=given)
    exchange = mask_outcome(outcome, sent).exchange
    assert exchange is not None
    return exchange.answer_headers, exchange.headers_truncated


def test_headers_repeat_no_secret() -> None:
    lines = "X-Echo: tok-5e6f2b7c\nX-Coded: dG9rLTVlNmYyYjdj\nServer: nginx"
    masked = "X-Echo: ***TOKEN***\nX-Coded: ***TOKEN***\nServer: nginx"
    assert with_headers(lines, {"TOKEN": "tok-5e6f2b7c"}) == (masked, False)
    assert with_headers(lines, {}) == (lines, False)


def test_headers_confirm_no_guess_of_a_short_secret() -> None:
    assert "abc" not in with_headers("X-Echo: abc", {"SHORT": "abc"})[0]


def test_headers_are_bounded_and_hold_no_part_of_a_secret() -> None:
    secret = "s3cr3t-" * 4
    lines = "\n".join(f"X-{number}: {secret}" for number in range(600))
    masked, truncated = with_headers(lines[:KEPT_BYTES], {"TOKEN": secret}, cut=True)
    assert len(masked.encode()) <= SHOWN_HEADER_BYTES
    assert truncated
    assert secret[:7] not in masked
    whole, truncated = with_headers("A: " + "x" * 3000, {})
    assert (len(whole), truncated) == (SHOWN_HEADER_BYTES, True)
