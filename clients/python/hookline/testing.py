"""A double for tests of programs that publish: records instead of sending.

    def test_promotion_is_published() -> None:
        with hookline.testing.recorded() as published:
            promote("llm", "v3")
        assert [event["type"] for event in published] == ["ADD_ARTIFACT_ALIAS"]

Clients, background publishers and runs that are made inside record; nothing has to be configured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, overload

from hookline import background, transport
from hookline.batches import Answer

_ENTITY = "HOOKLINE_ENTITY"


class Published(Sequence[dict[str, Any]]):
    """The events that were published, in order, as Hookline would have got them; also those not yet flushed."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._refusals: list[tuple[str, str]] = []

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"<published: {', '.join(event['type'] for event in self._all()) or 'nothing'}>"

    def of_type(self, type_: str) -> list[dict[str, Any]]:
        """The events of a type."""
        return [event for event in self._all() if event["type"] == type_]

    def clear(self) -> None:
        """Forget what was published so far."""
        self._all().clear()

    def refuse(self, type_: str, reason: str = "is refused by this test") -> None:
        """From now on refuse events of a type, as Hookline refuses what is wrong with `data`."""
        self._refusals.append((type_, reason))

    def _all(self) -> list[dict[str, Any]]:
        background.flush_shared()
        return self._events

    def post(self, body: bytes) -> Answer:
        """Stands in for Hookline."""
        batch = json.loads(body)
        errors = [
            {"loc": [index, "data"], "msg": reason}
            for index, event in enumerate(batch)
            for type_, reason in self._refusals
            if event["type"] == type_
        ]
        if errors:
            return Answer(422, {}, json.dumps({"detail": "refused", "errors": errors}).encode())
        self._events += batch
        return Answer(202, {}, json.dumps({"accepted": len(batch)}).encode())

    def close(self) -> None:
        """Nothing is open."""


@contextmanager
def recorded(*, entity: str = "test") -> Iterator[Published]:
    """Record what this process publishes. `entity` is HOOKLINE_ENTITY while it does, unless that is set."""
    published = Published()
    background.forget_shared()
    former = os.environ.get(_ENTITY)
    transport.substitute(published)
    os.environ.setdefault(_ENTITY, entity)
    try:
        yield published
        background.flush_shared()
    finally:
        background.forget_shared()
        transport.substitute(None)
        if former is None:
            os.environ.pop(_ENTITY, None)
