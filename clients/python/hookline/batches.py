"""How events become requests, and what an answer means: the rules that all publishers of this package share.

Must not do I/O. The rules are those of Hookline's `POST /v1/events`: a batch is accepted or refused as a whole, and
a refusal names the index of each refused event, which is then taken out.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from time import monotonic, time
from typing import Any

from hookline.errors import Fault, InvalidEvent, Refused, Unreachable
from hookline.events import MAX_EVENT_BYTES, Event

BATCH_TYPE = "application/cloudevents-batch+json"
MAX_BATCH_EVENTS = 1000
MAX_BATCH_BYTES = 8 << 20
RETRY_AFTER_CAP_SECONDS = 60.0
"""The longest `Retry-After` that is obeyed."""
_BACKOFF_SECONDS, _BACKOFF_CAP_SECONDS = 0.5, 15.0
_AGAIN = frozenset({408, 421, 425, 429})
_OF_CONTENT = frozenset({400, 403, 413, 415, 422})
"""Refusals that may be about single events, and not about the key, the address or the request."""
_EXCERPT_CHARS = 300


@dataclass(frozen=True)
class Answer:
    """What came back: a status, headers with names in lower case, and the start of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def encoded(event: Event | Mapping[str, Any] | bytes) -> bytes:
    """The JSON text of an event in any of the forms that publishers take.

    Raises:
        InvalidEvent: if it is above 1 MiB, or no JSON.
    """
    if isinstance(event, Event):
        return event.to_json()
    if isinstance(event, bytes):
        text = event.strip()
    else:
        try:
            text = json.dumps(dict(event), separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError) as exc:
            raise InvalidEvent(f"is no JSON: {exc}") from exc
    if not text.startswith(b"{"):
        raise InvalidEvent("must be a JSON object")
    if len(text) > MAX_EVENT_BYTES:
        raise InvalidEvent(f"an event must have at most {MAX_EVENT_BYTES} bytes; this one has {len(text)}")
    return text


def encoded_all(events: Event | Iterable[Event | Mapping[str, Any] | bytes]) -> list[bytes]:
    """The JSON texts of one event or of several. Raises InvalidEvent as `encoded`."""
    one_by_one = [events] if isinstance(events, (Event, Mapping, bytes)) else events
    return [encoded(event) for event in one_by_one]


def cut(
    events: Iterable[bytes], *, max_events: int = MAX_BATCH_EVENTS, max_bytes: int = MAX_BATCH_BYTES
) -> list[list[bytes]]:
    """The events in order, in batches that a request may carry."""
    batches: list[list[bytes]] = []
    size = 0
    for event in events:
        if not batches or len(batches[-1]) >= max_events or size + len(event) + 1 > max_bytes:
            batches.append([])
            size = 2
        batches[-1].append(event)
        size += len(event) + 1
    return batches


def body(batch: list[bytes]) -> bytes:
    """The request's body."""
    return b"[" + b",".join(batch) + b"]"


@dataclass
class Outcome:
    """What became of one batch so far, while its refused events are taken out and the rest is sent again.

    Send `pending[0]`, and give the answer to `take`, until `pending` is empty.
    """

    pending: deque[list[bytes]]
    accepted: int = 0
    refusals: list[tuple[bytes, tuple[Fault, ...]]] = field(default_factory=list)

    @classmethod
    def of(cls, batch: list[bytes]) -> Outcome:
        """For a batch that is yet to be sent."""
        return cls(deque([batch] if batch else []))

    def take(self, answer: Answer, url: str) -> None:
        """Take the answer to `pending[0]` into account.

        Raises:
            Unreachable: when the same batch is to be sent again, later.
            Refused: when Hookline refuses this publisher, and not an event.
        """
        batch = self.pending[0]
        if answer.status == 202:
            self.accepted += len(batch)
            self.pending.popleft()
            return
        problem = _problem(answer)
        said = f"{url} answered {answer.status}: {_detail(answer, problem)}"
        if answer.status in _AGAIN or answer.status >= 500:
            raise Unreachable(said, retry_after_seconds=_retry_after_seconds(answer), accepted=self.accepted)
        if answer.status not in _OF_CONTENT:
            raise Refused(said, status=answer.status, accepted=self.accepted)
        faults = _faults(problem, len(batch))
        if answer.status == 403 and not faults:  # the key publishes nothing at all
            raise Refused(said, status=answer.status, accepted=self.accepted)
        self.pending.popleft()
        if not faults and len(batch) > 1:  # something between refuses what it does not name: half of it may pass
            middle = len(batch) // 2
            self.pending.extendleft([batch[middle:], batch[:middle]])
            return
        if not faults:
            faults = {0: [Fault("", said)]}
        self.refusals += [(batch[index], tuple(found)) for index, found in sorted(faults.items())]
        if rest := [event for index, event in enumerate(batch) if index not in faults]:
            self.pending.appendleft(rest)


class Patience:
    """How long one batch is tried again: `seconds` from when it is made."""

    def __init__(self, seconds: float) -> None:
        self._until = monotonic() + seconds
        self._tries = 0

    def renew(self) -> None:
        """There was an answer: the next wait is a short one again."""
        self._tries = 0

    def wait_seconds(self, unreachable: Unreachable) -> float | None:
        """How long to wait before the next try; None when it would come too late."""
        self._tries += 1
        seconds = backoff_seconds(self._tries, unreachable)
        return None if monotonic() + seconds > self._until else seconds


def backoff_seconds(tries: int, unreachable: Unreachable) -> float:
    """How long to wait before the next try, after so many in vain: `Retry-After`, or twice as long each time."""
    if unreachable.retry_after_seconds is not None:
        return min(unreachable.retry_after_seconds, RETRY_AFTER_CAP_SECONDS) + random.uniform(0, 0.5)  # noqa: S311
    ceiling = min(_BACKOFF_SECONDS * float(2 ** min(tries - 1, 10)), _BACKOFF_CAP_SECONDS)
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311


def _problem(answer: Answer) -> Mapping[str, Any]:
    try:
        value = json.loads(answer.body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _detail(answer: Answer, problem: Mapping[str, Any]) -> str:
    if 300 <= answer.status < 400:
        return f"redirects are not followed; set HOOKLINE_URL to where it leads ({answer.headers.get('location', '')})"
    text = problem.get("detail") or problem.get("title") or answer.body[:_EXCERPT_CHARS].decode("utf-8", "replace")
    return " ".join(str(text).split())[:_EXCERPT_CHARS] or "nothing more"


def _faults(problem: Mapping[str, Any], count: int) -> dict[int, list[Fault]]:
    """The faults of each event that an answer names by its index (`errors[].loc[0]`)."""
    faults: dict[int, list[Fault]] = {}
    errors = problem.get("errors")
    for error in errors if isinstance(errors, list) else ():
        loc = error.get("loc") if isinstance(error, dict) else None
        if not isinstance(loc, list) or not loc:
            continue
        index = loc[0]
        if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < count:
            faults.setdefault(index, []).append(Fault(".".join(map(str, loc[1:])), str(error.get("msg", ""))))
    return faults


def _retry_after_seconds(answer: Answer) -> float | None:
    """`Retry-After` (RFC 9110, section 10.2.3), as seconds or as a date."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time()) if text else None
    except (TypeError, ValueError, OverflowError):
        return None
