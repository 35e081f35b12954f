"""What a dashboard is made of: panels in rows, and the queries that panels ask again and again."""

from __future__ import annotations

from dataclasses import dataclass

RATE = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; `queries` are (PromQL, legend)."""

    title: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    unit: str = "short"
    says: str = ""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard: rows from top to bottom, each with its height in Grafana's grid."""

    name: str
    title: str
    rows: tuple[tuple[int, tuple[Panel, ...]], ...]

    @property
    def panels(self) -> list[Panel]:
        """All panels, in reading order."""
        return [panel for _height, row in self.rows for panel in row]


def quantiles(metric: str) -> tuple[tuple[str, str], ...]:
    """The median, the 95th and the 99th percentile of a histogram."""
    buckets = f"sum by (le) (rate({metric}_bucket[{RATE}]))"
    return tuple((f"histogram_quantile({q}, {buckets})", f"p{q * 100:g}") for q in (0.5, 0.95, 0.99))


def rate(metric: str, by: str = "", where: str = "") -> str:
    """The rate of a counter, added up over instances."""
    grouped = f"sum by ({by}) " if by else "sum"
    return f"{grouped}(rate({metric}{where}[{RATE}]))"


def of_workers(metric: str, where: str = "", *, queue: str = "") -> str:
    """The rate of a counter by instance, for workers alone: APIs and dispatchers have the counter too, and never count.

    `where` selects among the counter's series, `queue` among the workers.
    """
    consumers = f'{{queue="{queue}"}}' if queue else ""
    return f"{rate(metric, 'instance', where)} and on (instance) hookline_workers{consumers}"


def late(metric: str, bound: str) -> str:
    """The share of what took longer than a bucket's bound."""
    return f'1 - sum(rate({metric}_bucket{{le="{bound}"}}[{RATE}])) / sum(rate({metric}_count[{RATE}]))'


def stat(title: str, query: str, unit: str = "short", says: str = "") -> Panel:
    """A single number."""
    return Panel(title, ((query, ""),), kind="stat", unit=unit, says=says)
