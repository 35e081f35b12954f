"""Members of the open objects that events bring: a run's own, and those of metadata, config and summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shared.domain.events.fast_decoding import QuickRun
from shared.domain.events.models import Run


def member_at(values: Mapping[str, Any], key: str, missing: object = None) -> object:
    """A member by its whole key, else by the dotted path through nested objects; `missing` where there is none."""
    while key not in values:
        head, dot, key = key.partition(".")
        inner = values.get(head)
        if not dot or not isinstance(inner, dict):
            return missing
        values = inner
    return values[key]


def members_sent(event: Any) -> Mapping[str, Any]:
    """A run's members as the event has them: a member that is left out is missing, one that is null is null."""
    run: Run | QuickRun = event.data.run
    return run.members if isinstance(run, QuickRun) else _SentMembers(run)


class _SentMembers(Mapping[str, Any]):
    """Those of a model. A view: an event may have thousands, and each filter looks at a few."""

    __slots__ = ("_extra", "_run")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._extra = run.model_extra or {}

    def __getitem__(self, key: str) -> Any:
        if key in self._extra:
            return self._extra[key]
        if key in self._run.model_fields_set:
            return self._run.__dict__[key]
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._run.model_fields_set)

    def __len__(self) -> int:
        return len(self._run.model_fields_set)
