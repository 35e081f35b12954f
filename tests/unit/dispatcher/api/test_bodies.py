"""Reading bodies of requests."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import Request
from starlette.types import Message

from dispatcher.api.bodies import read_body
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
