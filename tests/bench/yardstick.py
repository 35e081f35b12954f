"""Bare loops of HTTP clients: how fast this machine is today, and what no delivery can be faster than."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from typing import TYPE_CHECKING

import httpx
import uvloop

from shared.http.client import WebhookClient
from shared.http.request import Request
from shared.settings import load_settings
from tests.bench.processes import ProcessFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from multiprocessing.connection import Connection

IN_FLIGHT = 4
SENDER_IN_FLIGHT = 64
START_SECONDS = 60
RUN_SECONDS = 120


def requests_per_second(url: str, bodies: Iterable[bytes]) -> float:
    """POST all bodies to `url` by `httpx.AsyncClient` from this one process; whole run divided by its wall time."""
    return asyncio.run(_with_httpx(url, list(bodies)))


async def _with_httpx(url: str, bodies: list[bytes]) -> float:
    left = iter(bodies)
    headers = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as client:

        async def lane() -> None:
            for body in left:
                (await client.post(url, content=body)).raise_for_status()

        began = time.monotonic()
        async with asyncio.TaskGroup() as lanes:
            for _ in range(IN_FLIGHT):
                lanes.create_task(lane())
        return len(bodies) / (time.monotonic() - began)


def client_limit(url: str, bodies: Sequence[bytes], *, processes: int) -> float:
    """POST all bodies to `url` by the client that deliveries go through, from as many processes as workers deliver."""
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    children = []
    for number in range(processes):
        here, there = context.Pipe()
        children.append(context.Process(target=_child, args=(there, url, bodies[number::processes]), daemon=True))
        children[-1].start()
        there.close()
        pipes.append(here)
    try:
        for pipe in pipes:
            _receive(pipe, START_SECONDS)
        began = time.monotonic()
        for pipe in pipes:
            pipe.send("go")
        for pipe in pipes:
            _receive(pipe, RUN_SECONDS)
        return len(bodies) / (time.monotonic() - began)
    finally:
        for child in children:
            child.terminate()
            child.join()


def client_cpu_seconds(sent: Sequence[tuple[str, bytes, dict[str, str]]]) -> float:
    """CPU seconds of a process that POSTs all of (URL, body, headers) by the client that deliveries go through."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_child_of_requests, args=(there, sent), daemon=True)
    child.start()
    there.close()
    try:
        _receive(here, START_SECONDS)
        here.send("go")
        if not here.poll(RUN_SECONDS):
            raise ProcessFailed("a bare loop did not end")
        return float(here.recv())
    finally:
        child.terminate()
        child.join()


def _receive(pipe: Connection, timeout_seconds: float) -> None:
    if not pipe.poll(timeout_seconds):
        raise ProcessFailed("a bare loop did not get ready, or did not end")
    pipe.recv()


def _child(pipe: Connection, url: str, bodies: Sequence[bytes]) -> None:
    _child_of_requests(pipe, [(url, body, {}) for body in bodies])


def _child_of_requests(pipe: Connection, sent: Sequence[tuple[str, bytes, dict[str, str]]]) -> None:
    kind = {"Content-Type": "application/json"}
    requests = [Request(url, body, kind | headers) for url, body, headers in sent]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_with_sender(pipe, requests))


async def _with_sender(pipe: Connection, requests: Sequence[Request]) -> None:
    sender = WebhookClient(load_settings(allowed_networks="127.0.0.0/8"))
    left = iter(requests)

    async def lane() -> None:
        for request in left:
            outcome = await sender.send(request)
            if outcome.status != httpx.codes.OK:
                raise ProcessFailed(f"a bare loop was answered: {outcome.kind} {outcome.status} {outcome.error}")

    pipe.send("ready")
    pipe.recv()
    before = time.process_time()
    async with asyncio.TaskGroup() as lanes:
        for _ in range(SENDER_IN_FLIGHT):
            lanes.create_task(lane())
    pipe.send(time.process_time() - before)
    await sender.aclose()
