"""The demo's judgement: does what arrived, and what the history says, equal the expectation exactly?

Pure: it compares three lists and names every difference. It must not wait, ask the service, or excuse anything.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from http import HTTPStatus

from examples.expectation import Firing
from examples.receiver import Received
from examples.service import HistoryRow

Key = tuple[str, str]


def key_of(record: Received) -> Key:
    """The firing that a request is about: each payload of the demo says its automation and its event."""
    body = record.body if isinstance(record.body, dict) else {}
    return str(body.get("automation", "?")), str(body.get("event", "?"))


def arrived(records: Sequence[Received]) -> list[Received]:
    """The requests that were accepted."""
    return [record for record in records if record.status == HTTPStatus.OK]


def differences(
    expected: Sequence[Firing], records: Sequence[Received], history: Sequence[HistoryRow], paths: dict[str, str]
) -> list[str]:
    """Each way in which what happened is not what was expected, in words; empty when all is as it must be.

    Args:
        expected: what the expectation says, skipped firings included.
        records: every request that the receiver got.
        history: every delivery that the service lists.
        paths: the receiver's path of each webhook.
    """
    return [
        *_faulty(records),
        *_wrong_arrivals(expected, records),
        *_wrong_content(expected, records, paths),
        *_wrong_attempts(records),
        *_wrong_history(expected, history),
    ]


def _faulty(records: Sequence[Received]) -> Iterator[str]:
    for record in records:
        for fault in record.faults:
            yield f"faulty request to {record.path} for {_name(key_of(record))}: {fault}"


def _wrong_arrivals(expected: Sequence[Firing], records: Sequence[Received]) -> Iterator[str]:
    wanted = {firing.key for firing in expected if firing.status == "delivered"}
    held_back = {firing.key for firing in expected if firing.status == "skipped"}
    counts = Counter(key_of(record) for record in arrived(records))
    for key in sorted(wanted - counts.keys()):
        yield f"missing: {_name(key)} did not arrive"
    for key in sorted(counts.keys() - wanted):
        why = "must be skipped" if key in held_back else "must not fire"
        yield f"unexpected: {_name(key)} arrived and {why}"
    for key, count in sorted(counts.items()):
        if count > 1:
            yield f"doubled: {_name(key)} arrived {count} times"


def _wrong_content(expected: Sequence[Firing], records: Sequence[Received], paths: dict[str, str]) -> Iterator[str]:
    firings = {firing.key: firing for firing in expected}
    for record in arrived(records):
        firing = firings.get(key_of(record))
        if firing is None:
            continue
        if record.body != firing.body:
            yield f"wrongly rendered: {_name(firing.key)} said {record.body!r} instead of {firing.body!r}"
        if record.path != paths[firing.webhook]:
            yield f"wrong webhook: {_name(firing.key)} arrived at {record.path}, not {paths[firing.webhook]}"


def _wrong_attempts(records: Sequence[Received]) -> Iterator[str]:
    attempts: dict[str, list[Received]] = defaultdict(list)
    for record in records:
        attempts[record.webhook_id].append(record)
    for made in attempts.values():
        name = _name(key_of(made[0]))
        numbers = [record.attempt for record in made]
        if numbers != list(range(1, len(made) + 1)):
            yield f"wrong attempts: {name} arrived as attempts {numbers}"
        if len({record.raw for record in made}) > 1:
            yield f"wrong attempts: {name} changed its body between attempts"


def _wrong_history(expected: Sequence[Firing], history: Sequence[HistoryRow]) -> Iterator[str]:
    wanted = Counter((firing.key, firing.webhook, firing.status, firing.reason) for firing in expected)
    listed = Counter(
        ((row.automation, row.event_id), row.webhook, row.status, row.reason if row.status == "skipped" else "")
        for row in history
    )
    for word, rows in (("lacks", wanted - listed), ("has, unexpected,", listed - wanted)):
        for (key, webhook, status, reason), count in sorted(rows.items()):
            yield f"history {word} {count} x {_name(key)} on {webhook}: {status} {reason}".rstrip()


def leaks(secrets: dict[str, str], texts: dict[str, str]) -> list[str]:
    """Each place, by name, that shows a secret's value which it must not."""
    return [
        f"leaked: the value of {name} is in {place}"
        for place, text in texts.items()
        for name, value in secrets.items()
        if value in text
    ]


def _name(key: Key) -> str:
    return f"{key[0]} on {key[1]}"
