"""Every metric in one place: its name, meaning and labels, and one function for each fact that is counted.

Labels are bounded: never a URL, an event id or a name that a user chose, but for the few of `hookline_load_per_second`.
Those about load and time are in `saturation_metrics`. In a process tree that sets
PROMETHEUS_MULTIPROC_DIR, all processes' values are added up at exposition. docs/metrics.md is generated from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import (
    Counter,
    Histogram,
    disable_created_metrics,
)

from shared.domain.delivery.outcomes import OutcomeKind
from shared.observability.metric_types import BatchHistogram, OptionalGauge, with_zero_series
from shared.observability.saturation_metrics import OF_APIS, OF_DISPATCHERS, OF_EVERY_PROCESS, OF_WORKERS

disable_created_metrics()  # type: ignore[no-untyped-call]  # a `_created` series for each counter says nothing here

_LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120)
_END_TO_END_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 36000, 172800)

EVENTS_PUBLISHED = Counter("hookline_events_published", "Events that the API appended to a stream.", ["type"])
EVENTS_REFUSED = Counter(
    "hookline_events_refused",
    "Events that the API refused: the streams are full, or their server is out of memory or unavailable.",
    ["reason"],
)
with_zero_series(EVENTS_REFUSED, reason=("full", "out_of_memory", "unavailable"))
EVENTS_OVER_QUOTA = Counter(
    "hookline_events_over_quota",
    "Events that the API refused, because their entity publishes more in a second than its quota allows.",
)
SOURCE_REQUESTS = Counter(
    "hookline_source_requests",
    "Webhooks in, by the kind of their source and what became of them; the kind `unknown` is no source's URL.",
    ["kind", "outcome"],
)
API_CONNECTIONS = OptionalGauge("hookline_api_connections", "Open connections to the API.", multiprocess_mode="livesum")
CONNECTIONS_CUT = Counter(
    "hookline_connections_cut",
    "Connections that the API cut, because they took too much memory or time, or because there were too many.",
    ["reason"],
)
with_zero_series(
    CONNECTIONS_CUT,
    reason=("crowded", "head_too_large", "head_too_slow", "body_too_slow", "answer_not_read", "unwanted_body"),
)
STREAM_MEMORY = OptionalGauge(
    "hookline_stream_memory_bytes", "Memory that the server with the streams uses.", multiprocess_mode="mostrecent"
)
STREAM_MEMORY_BOUND = OptionalGauge(
    "hookline_stream_memory_bound_bytes",
    "Memory of the server with the streams above which events are refused; 0: no limit.",
    multiprocess_mode="mostrecent",
)
EVENTS_EVALUATED = Counter("hookline_events_evaluated", "Events evaluated and committed.", ["type"])
POISON_ENTRIES = Counter(
    "hookline_poison_entries", "Stream entries that are not valid events; they are stored in `poison_entries`."
)
AUTOMATIONS_UNMATCHED = Counter(
    "hookline_automations_unmatched",
    "How often an automation could not be matched with an event: too costly, or its stored definition is not readable.",
    ["reason"],
)
with_zero_series(AUTOMATIONS_UNMATCHED, reason=("too_costly", "unreadable"))
SAMPLES_IGNORED = Counter(
    "hookline_samples_ignored",
    "Metric samples that were ignored, because they were at or before their metric's last step.",
)
RUNS_WATCHED = OptionalGauge(
    "hookline_runs_watched", "Runs whose heartbeat is waited for.", multiprocess_mode="mostrecent"
)
RUNS_CRASHED = Counter(
    "hookline_runs_crashed", "Runs that were published as crashed, because their heartbeat stayed out."
)
EVALUATION_LAG_ENTRIES = OptionalGauge(
    "hookline_evaluation_lag_entries",
    "Stream entries that are not evaluated yet.",
    ["partition"],
    multiprocess_mode="mostrecent",
)
EVALUATION_LAG_SECONDS = OptionalGauge(
    "hookline_evaluation_lag_seconds",
    "Age of the oldest stream entry that is not evaluated yet, in seconds.",
    ["partition"],
    multiprocess_mode="mostrecent",
)
EVALUATION_DELAY = BatchHistogram(
    "hookline_evaluation_delay_seconds",
    "From the stream receiving an event to its evaluation being committed, in seconds.",
    buckets=_LATENCY_BUCKETS,
)
FIRINGS = Counter("hookline_firings", "Firings of automations, without skipped ones.", ["event_type", "action"])
SKIPPED = Counter("hookline_firings_skipped", "Firings that were held back.", ["reason"])
DELIVERIES = Counter("hookline_deliveries", "Deliveries that ended, by outcome.", ["outcome"])
with_zero_series(DELIVERIES, outcome=("delivered", "dead", "refused"))
ATTEMPTS = Counter(
    "hookline_attempts",
    "HTTP requests made for deliveries; outcome internal: a fault in Hookline, not in the endpoint.",
    ["outcome"],
)
with_zero_series(ATTEMPTS, outcome=OutcomeKind)
WEBHOOK_ATTEMPTS = Counter(
    "hookline_webhook_attempts",
    "HTTP requests made for one webhook's deliveries; only with HOOKLINE_METRICS_PER_WEBHOOK=1.",
    ["webhook", "outcome"],
)
ATTEMPT_DURATION = BatchHistogram(
    "hookline_attempt_duration_seconds", "Duration of one HTTP request, in seconds.", buckets=_LATENCY_BUCKETS
)
ATTEMPT_DELAY = BatchHistogram(
    "hookline_attempt_delay_seconds",
    "From an attempt being due to its request being sent, in seconds; only to healthy endpoints: those whose circuit "
    "is closed, that are not slow and that have no rate or concurrency limit of their own.",
    buckets=_LATENCY_BUCKETS,
)
EVENT_TO_DELIVERY = BatchHistogram(
    "hookline_event_to_delivery_seconds",
    "From the stream receiving an event to its delivery being acknowledged, in seconds.",
    buckets=_END_TO_END_BUCKETS,
)
DELIVERIES_PENDING = OptionalGauge(
    "hookline_deliveries_pending", "Deliveries that have not ended.", multiprocess_mode="mostrecent"
)
DELIVERIES_DUE = OptionalGauge(
    "hookline_deliveries_due",
    "Pending deliveries whose next attempt is due and may be made now.",
    multiprocess_mode="mostrecent",
)
DELIVERIES_HELD = OptionalGauge(
    "hookline_deliveries_held",
    "Pending deliveries that are due, but whose webhook is disabled, paused or behind an open circuit.",
    multiprocess_mode="mostrecent",
)
DELIVERIES_DEAD = OptionalGauge(
    "hookline_deliveries_dead", "Dead letters that are stored.", multiprocess_mode="mostrecent"
)
OLDEST_DUE = OptionalGauge(
    "hookline_oldest_due_seconds",
    "How long the longest-waiting due delivery has been due, in seconds.",
    multiprocess_mode="mostrecent",
)
OLDEST_PROMPT = OptionalGauge(
    "hookline_oldest_due_prompt_seconds",
    "How long the longest-waiting due delivery has been due, in seconds, of those that only Hookline holds up: to "
    "endpoints whose circuit is closed and that have no rate or concurrency limit of their own.",
    multiprocess_mode="mostrecent",
)
DELIVERIES_DEAD_RECENT = OptionalGauge(
    "hookline_deliveries_dead_recent",
    "Dead letters of the last 30 minutes that are stored; of many, 10,000 at most.",
    multiprocess_mode="mostrecent",
)
ATTEMPTS_INTERNAL_RECENT = OptionalGauge(
    "hookline_attempts_internal_recent",
    "Attempts of the last so many minutes that are stored and failed because of a fault in Hookline or on its host; of "
    "many, 10,000 at most.",
    ["minutes"],
    multiprocess_mode="mostrecent",
)
POISON_RECENT = OptionalGauge(
    "hookline_poison_entries_recent",
    "Poison entries of the last 30 minutes that are stored; of many, 10,000 at most.",
    multiprocess_mode="mostrecent",
)
WEBHOOKS_DISABLED_RECENT = OptionalGauge(
    "hookline_webhooks_disabled_recent",
    "Webhooks that Hookline disabled in the last hour and that still are.",
    multiprocess_mode="mostrecent",
)
WEBHOOKS_DISABLED = OptionalGauge(
    "hookline_webhooks_disabled", "Webhooks that are disabled.", multiprocess_mode="mostrecent"
)
WEBHOOK_CIRCUIT_OPEN = OptionalGauge(
    "hookline_webhook_circuit_open",
    "Enabled webhooks whose circuit is open or half open: at most one request at a time is sent.",
    multiprocess_mode="mostrecent",
)
WEBHOOKS_DISABLED_AUTOMATICALLY = Counter(
    "hookline_webhooks_disabled_automatically",
    "Webhooks that Hookline disabled, because they answered 410 or only failed for too long.",
)
CIRCUIT_OPENINGS = Counter("hookline_webhook_circuit_openings", "Times that a webhook's circuit opened.")
SECRETS_UNREADABLE = Counter(
    "hookline_secrets_unreadable",
    "Drains that sent nothing because a secret of the webhook cannot be decrypted with HOOKLINE_SECRET_KEYS.",
)
WEBHOOKS_UNUSABLE = Counter(
    "hookline_webhooks_unusable",
    "Drains that sent nothing because no request can be made with the webhook's URL or a secret, such as a client "
    "certificate that OpenSSL refuses.",
)
PUMP_LAST_SWEEP = OptionalGauge(
    "hookline_pump_last_sweep_timestamp_seconds",
    "When the dispatcher last looked for due deliveries and lagging partitions, in Unix time.",
    multiprocess_mode="mostrecent",
)
SERVER_ANSWERED = OptionalGauge(
    "hookline_server_answered_timestamp_seconds",
    "When the database, and the Redis server with the streams, last answered the dispatcher, in Unix time; at first "
    "when the dispatcher began to ask.",
    ["server"],
    multiprocess_mode="mostrecent",
)
WORKERS = OptionalGauge(
    "hookline_workers", "Workers that run and consume this queue.", ["queue"], multiprocess_mode="livesum"
)
ENVIRONMENT_FAULTS = OptionalGauge(
    "hookline_environment_faults",
    "Faults of what the processes run on, over all of them: too few descriptors, a Redis that evicts or keeps no "
    "append-only file, a clock that is off by more than a second.",
    ["fault"],
    multiprocess_mode="mostrecent",
)
KEYS_ENDING = OptionalGauge(
    "hookline_api_keys_ending",
    "API keys that end within seven days, without those made in the last two weeks.",
    multiprocess_mode="mostrecent",
)
FORGOTTEN = Counter("hookline_forgotten_rows", "Rows deleted because they were older than their retention.", ["table"])
AUTOMATIONS_LOADED = OptionalGauge(
    "hookline_automations_loaded", "Automations that a worker process matches against.", multiprocess_mode="mostrecent"
)
RELOAD_SECONDS = Histogram(
    "hookline_reload_seconds",
    "Duration of one reload of edited automations, in seconds.",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
)
BUILD_INFO = OptionalGauge(
    "hookline_build_info", "Always 1; the label is the version.", ["version"], multiprocess_mode="mostrecent"
)

EXPOSED_BY: Mapping[str, Sequence[Counter | Histogram | OptionalGauge]] = {
    "API": (
        EVENTS_PUBLISHED,
        EVENTS_REFUSED,
        EVENTS_OVER_QUOTA,
        SOURCE_REQUESTS,
        API_CONNECTIONS,
        CONNECTIONS_CUT,
        *OF_APIS,
        *OF_EVERY_PROCESS,
        BUILD_INFO,
    ),
    "worker": (
        EVENTS_EVALUATED,
        POISON_ENTRIES,
        AUTOMATIONS_UNMATCHED,
        SAMPLES_IGNORED,
        EVALUATION_DELAY,
        FIRINGS,
        SKIPPED,
        DELIVERIES,
        ATTEMPTS,
        WEBHOOK_ATTEMPTS,
        ATTEMPT_DURATION,
        ATTEMPT_DELAY,
        EVENT_TO_DELIVERY,
        WEBHOOKS_DISABLED_AUTOMATICALLY,
        CIRCUIT_OPENINGS,
        SECRETS_UNREADABLE,
        WEBHOOKS_UNUSABLE,
        WORKERS,
        AUTOMATIONS_LOADED,
        RELOAD_SECONDS,
        *OF_WORKERS,
        *OF_EVERY_PROCESS,
        BUILD_INFO,
    ),
    "dispatcher": (
        EVALUATION_LAG_ENTRIES,
        EVALUATION_LAG_SECONDS,
        STREAM_MEMORY,
        STREAM_MEMORY_BOUND,
        DELIVERIES,
        DELIVERIES_PENDING,
        DELIVERIES_DUE,
        DELIVERIES_HELD,
        DELIVERIES_DEAD,
        DELIVERIES_DEAD_RECENT,
        ATTEMPTS_INTERNAL_RECENT,
        POISON_RECENT,
        WEBHOOKS_DISABLED_RECENT,
        OLDEST_DUE,
        OLDEST_PROMPT,
        WEBHOOKS_DISABLED,
        WEBHOOK_CIRCUIT_OPEN,
        RUNS_WATCHED,
        RUNS_CRASHED,
        PUMP_LAST_SWEEP,
        SERVER_ANSWERED,
        ENVIRONMENT_FAULTS,
        KEYS_ENDING,
        FORGOTTEN,
        *OF_DISPATCHERS,
        *OF_EVERY_PROCESS,
        BUILD_INFO,
    ),
}
"""The processes that expose each metric."""


def count_published(counts: Mapping[str, int]) -> None:
    """Events appended, by type."""
    for event_type, count in counts.items():
        EVENTS_PUBLISHED.labels(type=event_type).inc(count)


def set_open_connections(count: int) -> None:
    """How many connections this API process holds."""
    API_CONNECTIONS.set(count)


def count_cut_connection(reason: str) -> None:
    """The API cut a connection."""
    CONNECTIONS_CUT.labels(reason=reason).inc()


def count_evaluated(counts: Mapping[str, int], delays_seconds: Sequence[float]) -> None:
    """Events evaluated, by type, and how long after the stream received them."""
    for event_type, count in counts.items():
        EVENTS_EVALUATED.labels(type=event_type).inc(count)
    EVALUATION_DELAY.observe_all([max(0.0, delay) for delay in delays_seconds])


def mark_consuming(queues: Iterable[str]) -> None:
    """This process is a worker that consumes these queues now, and no others."""
    consumed = set(queues)
    for queue in consumed | _consumed_before:
        WORKERS.labels(queue=queue).set(int(queue in consumed))
    _consumed_before.update(consumed)


_consumed_before: set[str] = set()
"""A queue that is not consumed any more is shown as 0; written by the thread that shows signs of life."""


def set_environment_faults(kinds: Iterable[str], found: Mapping[str, int]) -> None:
    """How many faults of each kind there are; those that are not found are shown as 0."""
    for kind in {*kinds, *found}:
        ENVIRONMENT_FAULTS.labels(fault=kind).set(found.get(kind, 0))


def count_firings(counts: Mapping[tuple[str, str], int]) -> None:
    """Firings, by (event type, action)."""
    for (event_type, action), count in counts.items():
        FIRINGS.labels(event_type=event_type, action=action).inc(count)


def observe_attempts(
    attempts: Iterable[tuple[str, float]], *, delays_seconds: Sequence[float] = (), webhook: str | None = None
) -> None:
    """Requests made, as (outcome, duration in seconds), and how late those to healthy endpoints were sent.

    A webhook is named only where the operator asked for it.
    """
    counts: dict[str, int] = {}
    durations = []
    for outcome, duration_seconds in attempts:
        counts[outcome] = counts.get(outcome, 0) + 1
        durations.append(duration_seconds)
    ATTEMPT_DURATION.observe_all(durations)
    ATTEMPT_DELAY.observe_all([max(0.0, delay) for delay in delays_seconds])
    for outcome, count in counts.items():
        ATTEMPTS.labels(outcome=outcome).inc(count)
        if webhook is not None:
            WEBHOOK_ATTEMPTS.labels(webhook=webhook, outcome=outcome).inc(count)


def count_finished(outcome: str, count: int) -> None:
    """Deliveries that came to an end."""
    DELIVERIES.labels(outcome=outcome).inc(count)
