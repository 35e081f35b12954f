"""How full a process is and what it waits for: requests in flight, connections, servers, queues, and the API's clients.

Each is counted once for a statement, a command, a request or a few seconds, never for a delivery.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from prometheus_client import Counter, Histogram

from shared.observability.metric_types import BatchHistogram, OptionalGauge, PatientHistogram, with_zero_series

_SERVER_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2, 10)
_ANSWER_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2, 10)

REQUESTS_IN_FLIGHT = OptionalGauge(
    "hookline_requests_in_flight",
    "Requests to endpoints that a worker waits for, counted every five seconds.",
    multiprocess_mode="livesum",
)
REQUEST_PLACES = OptionalGauge(
    "hookline_request_places",
    "Requests that a worker may have in flight: HOOKLINE_MAX_CONNECTIONS for each process that sends.",
    multiprocess_mode="livesum",
)
DATABASE_CONNECTIONS = OptionalGauge(
    "hookline_database_connections", "Connections to the database that are in use.", multiprocess_mode="livesum"
)
DATABASE_CONNECTIONS_MOST = OptionalGauge(
    "hookline_database_connections_most",
    "Connections to the database that may be in use: HOOKLINE_DATABASE_CONNECTIONS for each process.",
    multiprocess_mode="livesum",
)
DATABASE_WAIT = Histogram(
    "hookline_database_wait_seconds",
    "How long threads waited for a connection to the database, opening one included, in seconds.",
    buckets=_SERVER_BUCKETS,
)
DATABASE_SECONDS = BatchHistogram(
    "hookline_database_seconds",
    "How long the database took for a statement, in seconds, by its first word.",
    ["statement"],
    buckets=_SERVER_BUCKETS,
)
DATABASE_FAULTS = Counter(
    "hookline_database_faults",
    "Calls of the database that failed: `unavailable`, it could not be reached or closed the connection; `statement`, "
    "it refused or ended a statement.",
    ["kind"],
)
with_zero_series(DATABASE_FAULTS, kind=("unavailable", "statement"))
REDIS_SECONDS = BatchHistogram(
    "hookline_redis_seconds",
    "How long Redis took for a command, in seconds; several sent together are a PIPELINE. Commands that wait for news "
    "are left out, and so is Celery's broker.",
    ["command"],
    buckets=_SERVER_BUCKETS,
)
REDIS_FAULTS = Counter(
    "hookline_redis_faults",
    "Commands that Redis did not carry out: `unavailable`, it could not be reached in time; `refused`, it answered "
    "with an error.",
    ["kind"],
)
with_zero_series(REDIS_FAULTS, kind=("unavailable", "refused"))
API_SECONDS = Histogram(
    "hookline_api_request_seconds",
    "How long the API took from a request's head to the end of its answer, in seconds, by the route's path.",
    ["route"],
    buckets=_ANSWER_BUCKETS,
)
API_REQUESTS = Counter(
    "hookline_api_requests",
    "Requests that the API answered, by the route's path, and by the status' first digit, such as 2xx.",
    ["route", "status"],
)
QUEUE_MESSAGES = OptionalGauge(
    "hookline_queue_messages",
    "Celery messages that wait in a queue; each is a wake-up, and none is a delivery.",
    ["queue"],
    multiprocess_mode="mostrecent",
)
LOAD = OptionalGauge(
    "hookline_load_per_second",
    "Deliveries a second in the last minute of the ten entities, automations and webhooks that have most, by name. "
    "`hookline up` does not show it, since everybody may read its /metrics.",
    ["by", "name"],
    multiprocess_mode="mostrecent",
)

OF_EVERY_PROCESS: Sequence[Counter | Histogram | OptionalGauge] = (
    DATABASE_CONNECTIONS,
    DATABASE_CONNECTIONS_MOST,
    DATABASE_WAIT,
    DATABASE_SECONDS,
    DATABASE_FAULTS,
    REDIS_SECONDS,
    REDIS_FAULTS,
)
OF_WORKERS: Sequence[OptionalGauge] = (REQUESTS_IN_FLIGHT, REQUEST_PLACES)
OF_DISPATCHERS: Sequence[OptionalGauge] = (QUEUE_MESSAGES, LOAD)
OF_APIS: Sequence[Counter | Histogram] = (API_SECONDS, API_REQUESTS)
STATEMENTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "COMMIT")
"""Told apart; all others are shown as OTHER. Claiming, recording and the commit of an evaluation are a WITH each."""


_statements, _commands = PatientHistogram(DATABASE_SECONDS), PatientHistogram(REDIS_SECONDS)


def write_durations() -> None:
    """Write the durations of statements and commands that wait to be written."""
    _statements.write()
    _commands.write()


def set_requests_in_flight(in_flight: int, places: int) -> None:
    """How many requests this worker waits for, and how many it may."""
    REQUESTS_IN_FLIGHT.set(in_flight)
    REQUEST_PLACES.set(places)


def observe_statement(word: str, began: float) -> None:
    """The database answered a statement with this first word, which began at this `perf_counter`."""
    shown = word if word in STATEMENTS else "OTHER"
    _statements.observe(shown, time.perf_counter() - began)


def count_database_fault(*, unavailable: bool) -> None:
    """A call of the database failed."""
    DATABASE_FAULTS.labels(kind="unavailable" if unavailable else "statement").inc()


@contextmanager
def waiting_for_connection() -> Iterator[None]:
    """Observe how long a connection to the database was waited for."""
    began = time.perf_counter()
    try:
        yield
    finally:
        DATABASE_WAIT.observe(time.perf_counter() - began)


def observe_command(command: str, began: float) -> None:
    """Redis answered a command, which began at this `perf_counter`."""
    _commands.observe(command, time.perf_counter() - began)


def count_redis_fault(*, unavailable: bool) -> None:
    """A command failed."""
    REDIS_FAULTS.labels(kind="unavailable" if unavailable else "refused").inc()


def observe_answer(route: str, status: int, seconds: float) -> None:
    """The API answered a request."""
    kind = status // 100
    series = _answers.get((route, kind))
    if series is None:
        series = _answers[route, kind] = API_SECONDS.labels(route), API_REQUESTS.labels(route, f"{kind}xx")
    series[0].observe(seconds)
    series[1].inc()


_answers: dict[tuple[str, int], tuple[Histogram, Counter]] = {}
"""The series that were looked up once, by route and the status' first digit: as many as there are routes."""


def set_queue_messages(lengths: Mapping[str, int]) -> None:
    """How many messages wait, by queue."""
    for queue, length in lengths.items():
        QUEUE_MESSAGES.labels(queue=queue).set(length)


def set_load(rates: Mapping[tuple[str, str], float]) -> None:
    """Deliveries a second, by (`entity`, `automation` or `webhook`; its name). All others are shown no more."""
    for by, name in _loaded - rates.keys():
        LOAD.remove(by, name)  # no other process may share its metrics: prometheus_client could not remove it
    for (by, name), rate in rates.items():
        LOAD.labels(by, name).set(rate)
    _loaded.clear()
    _loaded.update(rates)


_loaded: set[tuple[str, str]] = set()
"""What is shown; the dispatcher's sweep alone writes it."""
