"""The text of docs/metrics.md, from `shared.observability.metrics`. Says nothing beyond its help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from shared.observability import metrics

if TYPE_CHECKING:
    from shared.observability.metric_types import OptionalGauge

HEAD = """\
# Metrics

What `/metrics` shows to Prometheus. This page is generated: `make docs`. Alerts on these metrics are in
`deploy/prometheus`, dashboards in `deploy/grafana`, and a page for each alert in [runbooks/](runbooks/README.md).

| where | address |
|---|---|
| API | `/metrics` on the API's own port, no key |
| worker, pump | `/metrics` on `HOOKLINE_METRICS_PORT` of `HOOKLINE_METRICS_HOST`; none unless the port is set |
| `hookline up` | the API shows the metrics of all parts |

No label holds a URL, an id or a name that a user chose, except `webhook` behind `HOOKLINE_METRICS_PER_WEBHOOK=1`.

## Adding up

- **Counters and histograms** count what one worker host, pump or API did: `sum` them over instances, after `rate` or
  `increase`. The processes of a host's worker (`--pool prefork`) share a directory and are added up at exposition;
  what a process counted stays when it ends, in one file for all that have ended. Each worker on a host needs a port
  of its own, and begins at 0 when it is started again, as `rate` expects. What a killed worker leaves in the
  temporary directory is removed when the next one starts there.
- **Gauges of the pump** describe the one database and the streams, so every pump shows the same: take `max`, never
  `sum`. They are as old as `hookline_pump_last_sweep_timestamp_seconds` says.
- **`hookline_workers`** is 1 for each running worker and queue: `sum` it. What a killed worker said of itself is
  dropped at the next scrape.
- **`hookline_automations_loaded`** is what the process says that reloaded last; workers agree within
  `HOOKLINE_RELOAD_INTERVAL`.
- A gauge that a process does not know is not shown, rather than 0. Counters with few known labels begin at 0.
- Where `PROMETHEUS_MULTIPROC_DIR` is set by hand, it must be one host's, for one worker, and be emptied before a
  start.

## Dashboards

`deploy/grafana/dashboards/*.json` are imported into Grafana as they are, or provisioned as in `deploy/compose`; each
asks which Prometheus to use. They show, after minutes of traffic in which an endpoint failed for a while and a worker
was started anew:

**overview**: flow, lag, outcomes, latency

![the overview: stats in a row, then graphs in pairs](pictures/overview.png)

**webhooks**: circuits, durations, who fails

![the webhooks: circuits, attempts by outcome, requests by webhook](pictures/webhooks.png)

**automations**: what fires, and what is held back

![the automations: events by type, firings, skips](pictures/automations.png)

**workers**: who works, and the lag by partition

![the workers: events and attempts by instance, lag by partition](pictures/workers.png)

`python -m deploy.grafana.pictures --prometheus URL --minutes 60 --to FOLDER` draws such pictures from any Prometheus,
without Grafana; `make pictures` makes these again.

## From a histogram to a trace

With `HOOKLINE_OTEL=1`, buckets of `hookline_attempt_duration_seconds`, `hookline_event_to_delivery_seconds` and
`hookline_evaluation_delay_seconds` carry the `trace_id` of a sampled observation as an exemplar, with every pool of
workers. Exemplars exist in the OpenMetrics format only, which Prometheus asks for by itself; it keeps them when started
with `--enable-feature=exemplar-storage`, and Grafana shows them where the data source's *Exemplars* name `trace_id`. A
process offers new ones once a second at most. The same id is `trace_id` in the attempt's `delivery.attempted` line.

"""
UNITS = (("_timestamp_seconds", "Unix time"), ("_seconds", "seconds"), ("_bytes", "bytes"))


def metrics_reference() -> str:
    """The page: a table for each kind of process that shows metrics."""
    return HEAD + "\n".join(map(_section, metrics.EXPOSED_BY))


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
