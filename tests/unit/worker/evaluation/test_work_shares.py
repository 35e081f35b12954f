"""Shares of a worker's time: what one entity's filters spend comes back with time, and is nobody else's."""

from __future__ import annotations

import orjson

from shared.domain.automations.parsing import parse_automation
from shared.domain.filters.budget import EVENT_UNITS
from shared.domain.matching.compiled import compile_automation
from shared.domain.matching.index import AutomationIndex
from shared.messaging.streams import Entry
from tests.unit.domain.samples import event as sample
from worker.evaluation.batch import match_entries
from worker.evaluation.work_shares import BURST_UNITS, UNITS_PER_SECOND, WorkShares


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_entity_has_a_burst_and_then_its_share_of_each_second() -> None:
    clock = Clock()
    shares = WorkShares(clock)
    spent = 0
    while units := shares.units("acme"):
        shares.spend("acme", units)
        spent += units
    assert spent == BURST_UNITS
    assert shares.units("other") == EVENT_UNITS
    clock.now += 0.1
    assert shares.units("acme") == UNITS_PER_SECOND // 10
    clock.now += BURST_UNITS / UNITS_PER_SECOND
    assert shares.units("acme") == EVENT_UNITS
    assert not shares.spenders


def test_who_spends_more_than_there_is_owes_it() -> None:
    clock = Clock()
    shares = WorkShares(clock)
    shares.spend("acme", BURST_UNITS + UNITS_PER_SECOND)
    clock.now += 0.5
    assert shares.units("acme") == 0
    clock.now += 1.0
    assert shares.units("acme") == min(EVENT_UNITS, UNITS_PER_SECOND // 2)


def index_of(*filters: tuple[str, object]) -> AutomationIndex:
    """An automation for each entity and filter, with ids from 1 on."""
    index = AutomationIndex()
    for number, (entity, expression) in enumerate(filters, 1):
        raw = {"name": "a", "event": "ADD_ARTIFACT_ALIAS", "filter": expression, "action": {"no_op": True}}
        automation = parse_automation(raw, lambda _webhook: None)
        index.put(
            compile_automation(
                automation, automation_id=number, entity_id=number, entity=entity, epoch=0, webhook_id=None
            )
        )
    return index


def test_an_entity_beyond_its_share_keeps_cheap_filters_and_others_keep_theirs() -> None:
    costly = {"metadata.k": {"$regex": "(?:a?b?){490}"}}
    index = index_of(("acme", costly), ("acme", {"alias": "production"}), ("other", costly))
    clock = Clock()
    shares = WorkShares(clock)

    def matched(entity: str, count: int) -> list[int]:
        event = sample("ADD_ARTIFACT_ALIAS", entity=entity)
        event["data"]["artifact"]["metadata"] = {"k": "ab" * 1_900}
        entries = [Entry(f"{number}-0", orjson.dumps(event)) for number in range(1, count + 1)]
        batch = match_entries(entries, index, shares)
        assert batch.count == count
        return [automation.id for _, _, automation in batch.matches]

    found = matched("acme", 30)
    assert 9 <= found.count(1) <= 12
    assert found.count(2) == 30
    assert matched("other", 3) == [3, 3, 3]
    assert matched("acme", 5) == [2, 2, 2, 2, 2]
    clock.now += 60
    assert matched("acme", 1) == [1, 2]
