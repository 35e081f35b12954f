"""Two dashboards about load: how full everything is and who causes it, and the one for three in the morning."""

from __future__ import annotations

from deploy.grafana.panels import RATE, Dashboard, Panel, rate, stat

OURS = "and on (job, instance) hookline_build_info"
"""Prometheus may scrape others, who have `process_…` too."""


def _slowest(metric: str, by: str) -> str:
    """The 99th percentile of a histogram, by a label."""
    return f"histogram_quantile(0.99, sum by (le, {by}) (rate({metric}_bucket[{RATE}])))"


def _slowest_of_all(metric: str) -> str:
    return f"histogram_quantile(0.99, sum by (le) (rate({metric}_bucket[{RATE}])))"


def _slow_or_silent(metric: str, server: str) -> str:
    """How long a server has not answered the dispatchers, where that is long; else its slowest calls."""
    silent = f'time() - max(hookline_server_answered_timestamp_seconds{{server="{server}"}}) > 15'
    return f"({silent}) or {_slowest_of_all(metric)}"


def _busy(metric: str, by: str) -> str:
    """How many seconds of each second callers waited, by a label: 1 is one caller all the time."""
    return f"sum by ({by}) (rate({metric}_sum[{RATE}]))"


def _share(outcomes: str) -> str:
    """The share of attempts with these outcomes; 0 while there are none."""
    failed = rate("hookline_attempts_total", where=f'{{outcome=~"{outcomes}"}}')
    return f"{failed} / clamp_min({rate('hookline_attempts_total')}, 1e-9)"


def _top(by: str) -> Panel:
    query = f'max by (name) (hookline_load_per_second{{by="{by}"}})'
    return Panel(
        f"Deliveries by {by}",
        ((query, "{{name}}"),),
        unit="ops",
        says="The ten with most in the last minute. `hookline up` does not show it.",
    )


IN_FLIGHT = Panel(
    "Requests in flight",
    (("sum(hookline_requests_in_flight)", "in flight"), ("sum(hookline_request_places)", "places")),
    says="At the number of places webhooks wait for each other: start workers, or find who is slow.",
)
CONNECTIONS = Panel(
    "Database connections in use, share of the most",
    (("max by (job, instance) (hookline_database_connections / hookline_database_connections_most)", "{{instance}}"),),
    unit="percentunit",
)
POOL_WAIT = Panel(
    "Wait for a database connection, p99",
    ((_slowest("hookline_database_wait_seconds", "job"), "{{job}}"),),
    unit="s",
    says="Includes opening one. Rises when the pool is used up or PostgreSQL takes no connections.",
)
DATABASE_TIME = Panel(
    "Database: p99 by kind of statement",
    ((_slowest("hookline_database_seconds", "statement"), "{{statement}}"),),
    unit="s",
)
DATABASE_BUSY = Panel(
    "Database: seconds waited in a second",
    ((_busy("hookline_database_seconds", "statement"), "{{statement}}"),),
)
REDIS_TIME = Panel(
    "Redis: p99 by command",
    ((_slowest("hookline_redis_seconds", "command"), "{{command}}"),),
    unit="s",
)
REDIS_BUSY = Panel("Redis: seconds waited in a second", ((_busy("hookline_redis_seconds", "command"), "{{command}}"),))
FAULTS = Panel(
    "Calls of servers that failed",
    (
        (rate("hookline_database_faults_total", "kind"), "database {{kind}}"),
        (rate("hookline_redis_faults_total", "kind"), "Redis {{kind}}"),
    ),
    unit="ops",
)
API_TIME = Panel(
    "API: p99 by route", ((f"topk(10, {_slowest('hookline_api_request_seconds', 'route')})", "{{route}}"),), unit="s"
)
API_STATUS = Panel(
    "API: requests by status", ((rate("hookline_api_requests_total", "status"), "{{status}}"),), unit="reqps"
)
API_ROUTES = Panel(
    "API: requests by route",
    ((f"topk(10, {rate('hookline_api_requests_total', 'route')})", "{{route}}"),),
    unit="reqps",
)
QUEUES = Panel(
    "Celery's queues",
    (("max by (queue) (hookline_queue_messages)", "{{queue}}"),),
    says="Wake-ups, not deliveries. Many of them: no worker consumes the queue, or all drain already.",
)
FILES = Panel(
    "Open files, share of the limit",
    ((f"process_open_fds / process_max_fds {OURS}", "{{job}} {{instance}}"),),
    unit="percentunit",
)
MEMORY = Panel("Memory", ((f"process_resident_memory_bytes {OURS}", "{{job}} {{instance}}"),), unit="bytes")
PROCESSOR = Panel(
    "Processors used",
    ((f"rate(process_cpu_seconds_total[{RATE}]) {OURS}", "{{job}} {{instance}}"),),
    says="One process with threads uses at most one.",
)

SATURATION = Dashboard(
    "saturation",
    "Hookline: saturation",
    (
        (8, (IN_FLIGHT, QUEUES)),
        (8, (_top("entity"), _top("automation"), _top("webhook"))),
        (8, (CONNECTIONS, POOL_WAIT)),
        (8, (DATABASE_TIME, DATABASE_BUSY)),
        (8, (REDIS_TIME, REDIS_BUSY)),
        (8, (API_TIME, API_STATUS, API_ROUTES)),
        (8, (FILES, MEMORY, PROCESSOR)),
    ),
)

NIGHT = Dashboard(
    "night",
    "Hookline: 3 a.m.",
    (
        (
            4,
            (
                stat("Alerts firing", 'count(ALERTS{alertname=~"Hookline.*", alertstate="firing"}) or vector(0)'),
                stat("Oldest event unevaluated", "max(hookline_evaluation_lag_seconds)", "s"),
                stat("Oldest delivery due", "max(hookline_oldest_due_seconds)", "s"),
                stat("Parts that don't answer", 'count(up{job=~"hookline.*"} == 0) or vector(0)'),
            ),
        ),
        (
            4,
            (
                stat(
                    "Is it us?",
                    _share("internal"),
                    "percentunit",
                    "Attempts that failed inside Hookline. Above 0: see Workers, by instance.",
                ),
                stat(
                    "Is it the database?",
                    _slow_or_silent("hookline_database_seconds", "database"),
                    "s",
                    "p99 of a statement, or how long it is silent. Above 0.5 s, or faults below: look at PostgreSQL.",
                ),
                stat(
                    "Is it Redis?",
                    _slow_or_silent("hookline_redis_seconds", "redis"),
                    "s",
                    "p99 of a command, or how long it is silent. Above 0.1 s, or faults below: look at Redis.",
                ),
                stat(
                    "Is it the network?",
                    _share("network|timeout"),
                    "percentunit",
                    "Attempts without an answer. Many, at many webhooks: our way out; at one or two: their endpoints.",
                ),
                stat(
                    "Is it an endpoint?",
                    "max(hookline_webhook_circuit_open)",
                    says="Webhooks whose circuit is open. A few: `celery -A worker webhooks list` names them.",
                ),
            ),
        ),
        (
            8,
            (
                FAULTS,
                Panel(
                    "Attempts by outcome", ((rate("hookline_attempts_total", "outcome"), "{{outcome}}"),), unit="reqps"
                ),
            ),
        ),
        (8, (DATABASE_TIME, REDIS_TIME, API_STATUS)),
        (8, (IN_FLIGHT, _top("webhook"), FILES)),
    ),
)
