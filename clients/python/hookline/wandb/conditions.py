"""`metric & metric`: several conditions that must all hold, in the client's form of a filter and in Hookline's.

The client's filter of a run metric has one condition. Here it may have a list of them, which travels as
`{"run_metric_filter": {"all_of": [{"threshold_filter": …}, {"change_filter": …}]}}`.
"""

from __future__ import annotations

from typing import Annotated, Any, Union

from pydantic import Field
from wandb._filters import And, FilterExpr
from wandb._filters.operators import BaseOp
from wandb._pydantic import GQLBase
from wandb.automations import events
from wandb.automations._run_metric_filters import BaseMetricFilter, MetricZScoreFilter

_ONE = Union[  # noqa: UP007 its members are known at run time only
    events._WrappedMetricThresholdFilter, events._WrappedMetricChangeFilter, events._WrappedMetricZScoreFilter
]


class AllOf(GQLBase):  # type: ignore[misc]
    """Conditions on metrics that must all hold."""

    event_type: Annotated[Any, Field(exclude=True, repr=False)] = events.EventType.RUN_METRIC_THRESHOLD
    all_of: Annotated[list[_ONE], Field(alias="all_of", min_length=2)]


def complete() -> None:
    """Let the filters of metrics be joined by `&`, in any order and with filters of runs."""
    field = events.RunMetricFilter.model_fields["metric"]
    field.annotation = Union[field.annotation, AllOf]  # noqa: UP007
    events.RunMetricFilter.__and__ = _joined
    events.RunMetricFilter.__rand__ = _joined_reversed
    for kind in (BaseMetricFilter, MetricZScoreFilter):
        kind.__and__ = _joined
        kind.__rand__ = _joined_reversed


def _joined(left: Any, right: Any) -> Any:
    runs = [run for each in (left, right) for run in _runs(each)]
    metrics = [metric for each in (left, right) for metric in _metrics(each)]
    if not all(_is_filter(each) for each in (left, right)):
        return NotImplemented
    run = runs[0] if len(runs) == 1 else And(exprs=tuple(runs))
    return events.RunMetricFilter(run=run, metric=metrics[0] if len(metrics) == 1 else AllOf(all_of=metrics))


def _joined_reversed(right: Any, left: Any) -> Any:
    return _joined(left, right)


def _is_filter(given: Any) -> bool:
    return isinstance(given, (BaseOp, FilterExpr, events.RunMetricFilter, BaseMetricFilter, MetricZScoreFilter))


def _runs(given: Any) -> list[Any]:
    """The filters of runs that it has, without those that match every run."""
    if isinstance(given, events.RunMetricFilter):
        return [] if given.run == And() else [given.run]
    return [given] if isinstance(given, (BaseOp, FilterExpr)) else []


def _metrics(given: Any) -> list[Any]:
    if isinstance(given, events.RunMetricFilter):
        return list(given.metric.all_of) if isinstance(given.metric, AllOf) else [given.metric]
    return [given] if isinstance(given, (BaseMetricFilter, MetricZScoreFilter)) else []
