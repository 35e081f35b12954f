"""Reading bodies of requests."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import Request
from starlette.types import Message

from dispatcher.api.bodies import decode_json, read_body
from dispatcher.api.problems import Problem


def test_a_client_that_leaves_is_no_fault_of_ours() -> None:
    told: list[Message] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return told.pop(0)

    request = Request({"type": "http", "headers": []}, receive)
    with pytest.raises(Problem, match="ended before the body was read") as left:
        asyncio.run(read_body(request, 100))
    assert left.value.status == 400


@pytest.mark.parametrize("body", [b"[" + b"{}," * 200_000 + b"1]", b"[" + b"1," * 500_001 + b"1]", b"[" * 200_001])
def test_a_body_that_would_take_many_times_its_size_is_refused(body: bytes) -> None:
    with pytest.raises(Problem, match=r"at most (200000 objects|500000 commas)") as refused:
        decode_json(body)
    assert refused.value.status == 413


def test_a_body_of_text_may_be_as_large_as_ever() -> None:
    text = "x" * (7 << 20)
    assert decode_json(b'{"a": "' + text.encode() + b'"}') == {"a": text}
