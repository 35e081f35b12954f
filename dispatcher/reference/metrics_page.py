"""The text of docs/metrics.md, from `shared.observability.metrics`. Says nothing beyond its help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from shared.observability import metrics
from shared.observability.process_metrics import HELP

if TYPE_CHECKING:
    from shared.observability.metric_types import OptionalGauge

HEAD = """\
# Metrics

This page lists what `/metrics` exposes to Prometheus. It is generated: `make docs`. Alerts on these metrics are in
`deploy/prometheus`, dashboards in `deploy/grafana`, and a page for each alert in [runbooks/](runbooks/README.md).
The process `hookline dispatcher` is called the dispatcher here; the metric of its last sweep keeps an earlier name,
pump.

| where | address |
|---|---|
| API | `/metrics` on the API's own port, no key |
| worker, dispatcher | `/metrics` on `HOOKLINE_METRICS_PORT` of `HOOKLINE_METRICS_HOST`; none unless the port is set |
| `hookline up` | the API exposes the metrics of all parts |

No label holds a URL, an id or a name that a user chose, with two exceptions: `webhook` behind
`HOOKLINE_METRICS_PER_WEBHOOK=1`, and `name` of `hookline_load_per_second`, which the dispatcher shows on its own port
for the ten entities, automations and webhooks with most deliveries.

## Adding up

- **Counters and histograms** count what one worker, dispatcher or API did: take `rate` or `increase`, then `sum` over
  instances. The processes of one worker (`--pool prefork`) share a directory, and `/metrics` shows their sum. The
  counts of ended processes are kept, in one file for all of them. Each worker on a host needs a port of its own. It
  begins at 0 when it is restarted, as `rate` expects. Files that a killed worker leaves in the temporary
  directory are removed when the next one starts there.
- **Gauges of the dispatcher** describe the one database and the streams, so every dispatcher exposes the same values:
  take `max`, never `sum`. `hookline_pump_last_sweep_timestamp_seconds` says how old they are.
- **`hookline_workers`** is 1 for each running worker and queue that it consumes, and 0 once it does so no more: `sum`
  it. The value of a killed worker disappears at the next scrape.
- **`hookline_automations_loaded`** is the value of the process that reloaded last. Workers agree within
  `HOOKLINE_RELOAD_INTERVAL`.
- A gauge that a process does not know is not exposed, rather than 0. Counters with few known labels begin at 0.
- If you set `PROMETHEUS_MULTIPROC_DIR` yourself, use one directory for one worker on one host, and empty it before each
  start.

## Dashboards

Import `deploy/grafana/dashboards/*.json` into Grafana, or provision them as in `deploy/compose`. Each dashboard asks
which Prometheus to use. The pictures are from some minutes of traffic, in which an endpoint failed for a while and a
worker was restarted:

**overview**: flow, lag, outcomes, latency

![the overview: stats in a row, then graphs in pairs](pictures/overview.png)

**webhooks**: circuits, durations, failing webhooks

![the webhooks: circuits, attempts by outcome, requests by webhook](pictures/webhooks.png)

**automations**: firings, and firings that were held back

![the automations: events by type, firings, skips](pictures/automations.png)

**workers**: work by instance, and the lag by partition

![the workers: events and attempts by instance, lag by partition](pictures/workers.png)

**saturation**: requests in flight, connections, time by kind of statement and command, the API by route, queues, open
files, and who causes the load

![saturation: places and connections in use, waits, time by kind of call, the busiest by name](pictures/saturation.png)

**night** ("3 a.m."): is it Hookline, the database, Redis, the network or an endpoint?

![3 a.m.: numbers of what waits, five questions with a number each, graphs of faults and time](pictures/night.png)

`python -m deploy.grafana.pictures --prometheus URL --minutes 60 --to FOLDER` draws such pictures from any Prometheus,
without Grafana; `make pictures` draws these again.

## From a histogram to a trace

With `HOOKLINE_OTEL=1`, buckets of `hookline_attempt_duration_seconds`, `hookline_event_to_delivery_seconds` and
`hookline_evaluation_delay_seconds` carry the `trace_id` of a sampled observation as an exemplar, with every pool of
workers. Exemplars exist only in the OpenMetrics format, which Prometheus asks for by itself. Prometheus keeps them if
it is started with `--enable-feature=exemplar-storage`, and Grafana shows them if the data source's *Exemplars* name
`trace_id`. A process offers new ones at most once a second. The attempt's line `delivery.attempted` has the same id.

"""
UNITS = (("_timestamp_seconds", "Unix time"), ("_seconds", "seconds"), ("_bytes", "bytes"))


def metrics_reference() -> str:
    """The page: a table for each kind of process that shows metrics."""
    return HEAD + "\n".join([*map(_section, metrics.EXPOSED_BY), _processes()])


def _processes() -> str:
    """What every process shows of itself."""
    head = (
        "## Every process\n\n"
        "Those that share a directory are shown together. Without descriptors, scrapes are answered from a reserve: "
        "counts go on, and of these metrics only the first two are shown.\n\n"
        "| metric | type | unit | meaning |\n|---|---|---|---|\n"
    )
    rows = []
    for name, meaning in HELP.items():
        unit = next((unit for ending, unit in UNITS if name.removesuffix("_total").endswith(ending)), "")
        rows.append(f"| `{name}` | {'counter' if name.endswith('_total') else 'gauge'} | {unit} | {meaning} |\n")
    return head + "".join(rows)


def _section(shown_by: str) -> str:
    rows = sorted(_row(metric) for metric in metrics.EXPOSED_BY[shown_by])
    head = f"## {shown_by}\n\n| metric | type | labels | unit | over instances | meaning |\n|---|---|---|---|---|---|\n"
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(metric: Counter | Histogram | OptionalGauge) -> tuple[str, ...]:
    (family,) = metric.describe()
    name = f"{family.name}_total" if isinstance(metric, Counter) else family.name
    unit = next((unit for ending, unit in UNITS if name.endswith(ending)), "")
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)
    meaning = family.documentation.replace("|", "\\|")
    return f"`{name}`", family.type, labels, unit, _over_instances(metric), meaning


def _over_instances(metric: Counter | Histogram | OptionalGauge) -> str:
    if isinstance(metric, Counter | Histogram) or metric is metrics.WORKERS:
        return "sum"
    return "count" if metric is metrics.BUILD_INFO else "max"
