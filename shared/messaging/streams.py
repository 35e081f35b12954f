"""Partitioned Redis streams, in which events wait, in order, until their effects are committed.

Reads and trims; only intake and the dispatcher's notices append. Must not decode an entry or move an offset, which is
a row in the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import RedisError

from shared.domain.events.limits import MAX_EVENT_BYTES
from shared.domain.events.partitioning import Offset
from shared.messaging.edits import revision_key

FIELD = b"e"
"""The field of an entry that holds the event's JSON; other fields are ignored."""
# XRANGE counts entries and not bytes, so a script adds the bytes up on the server. It reads 16 entries at a time, so it
# may read up to 15 more than it returns.
READ = (
    f"local most = {MAX_EVENT_BYTES + 1}"
    """
local function read(stream, after, wanted, room, field)
  local found = {}
  while wanted > 0 and room > 0 do
    local some = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', math.min(wanted, 16))
    if #some == 0 then break end
    for _, entry in ipairs(some) do
      after = entry[1]
      local body = false
      for at = 1, #entry[2], 2 do
        if entry[2][at] == field then body = entry[2][at + 1] end
      end
      if body and #body > most then body = string.sub(body, 1, most) end
      found[#found + 1] = after
      found[#found + 1] = body
      wanted, room = wanted - 1, room - (body and #body or 0)
      if room <= 0 then break end
    end
  end
  return found
end
"""
)
"""Lua: a function that reads entries of a stream after an id, until `wanted` entries or `room` bytes of bodies."""
_READ_WITHIN = READ + (
    "return {redis.call('GET', KEYS[2]), read(KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4])}"
)
# A script is all or nothing like a transaction, but has one answer: a client reads those of a transaction one by one.
APPEND_ALL = """
for at, key in ipairs(KEYS) do redis.call('XADD', key, '*', ARGV[1], ARGV[at + 1]) end
return #KEYS
"""
"""Appends one entry to each of its keys' streams: the arguments are `FIELD` and then the entries' JSON."""
MAX_COUNTED = 1000
"""The largest lag, in entries, where they have to be read to be counted."""


class Entry(NamedTuple):
    """One entry of a stream: its id, `<milliseconds>-<n>`, and the event's JSON; None when it has no such field."""

    id: str
    body: bytes | None

    @property
    def received_ms(self) -> int:
        """When the stream received it, in Unix milliseconds."""
        return int(self.id.partition("-")[0])


@dataclass(frozen=True, slots=True)
class Lag:
    """How far evaluation of a partition is behind its stream."""

    entries: int
    """How many entries are not evaluated yet."""
    seconds: float
    """The age of the oldest of them; 0 when there are none."""


def stream_key(partition: int) -> str:
    """The Redis key of a partition's stream; the braces keep a partition's keys on one node of a Redis Cluster."""
    return f"hookline:events:{{{partition}}}"


def entry_order(entry_id: str) -> tuple[int, int]:
    """The order of an entry among those of all partitions: when its stream received it, and a number."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)


def read_after(redis: Redis, partition: int, offset: str, count: int) -> list[Entry]:
    """Up to `count` entries after an offset, oldest first."""
    raw: Any = redis.xrange(stream_key(partition), min=f"({offset}", max="+", count=count)
    return [Entry(entry_id.decode(), fields.get(FIELD)) for entry_id, fields in raw]


class StreamRead(NamedTuple):
    """Entries, and the revision of the newest edit that was told when they were read (`revision_key`)."""

    revision: bytes | None
    entries: list[Entry]


def read_within(redis: Redis, partition: int, offset: str, count: int, max_bytes: int) -> StreamRead:
    """Up to `count` entries after an offset, oldest first, until their bodies reach `max_bytes`.

    The entry that reaches it is still returned, however large it is, and nothing after it. So memory is bounded, and
    each read makes progress.
    """
    read: Any = redis.register_script(_READ_WITHIN)
    keys = [stream_key(partition), revision_key(redis, partition)]
    revision, found = read(keys=keys, args=[offset, count, max_bytes, FIELD])
    return StreamRead(revision, entries_of(found))


def entries_of(found: list[Any]) -> list[Entry]:
    """The entries from the flat list of ids and bodies that `READ`'s function returns."""
    return [Entry(entry_id.decode(), body) for entry_id, body in zip(found[::2], found[1::2], strict=True)]


def read_lags(redis: Redis, offsets: Mapping[int, Offset], now_seconds: float) -> dict[int, Lag]:
    """The lag of each partition after its committed offset; `now_seconds` is Unix time. Raises RedisError."""
    pipeline = redis.pipeline(transaction=False)
    for partition, offset in offsets.items():
        pipeline.xrange(stream_key(partition), min=f"({offset.entry_id}", max="+", count=1)
        pipeline.xinfo_stream(stream_key(partition))
    answers = iter(pipeline.execute(raise_on_error=False))
    found = {}
    for partition, offset in offsets.items():
        first, info = next(answers), next(answers)
        if isinstance(first, RedisError):
            raise first
        if not first or isinstance(info, RedisError):  # an empty stream, or none: then XINFO is an error
            found[partition] = Lag(0, 0.0)
            continue
        # The server counts the entries that were ever added. Trimmed ones were evaluated, so the difference is the lag.
        waiting = int(info["entries-added"]) - offset.entries_read
        if not 1 <= waiting <= int(info["length"]):
            # The stream was made anew since, after a loss or a restore, so the two counts are not of the same stream.
            waiting = len(read_after(redis, partition, offset.entry_id, MAX_COUNTED))
        oldest_seconds = int(first[0][0].partition(b"-")[0]) / 1000
        found[partition] = Lag(waiting, max(0.0, now_seconds - oldest_seconds))
    return found


def trim(redis: Redis, partition: int, offset: str, keep_since_ms: int) -> int:
    """Drop entries that are evaluated, by the offset, and older than the retention; returns how many.

    The server drops whole nodes of the stream only, which is cheap and keeps up to a hundred entries longer.
    """
    committed_ms, _, committed_n = offset.partition("-")
    bound = offset if int(committed_ms) < keep_since_ms else f"{keep_since_ms}-0"
    if int(committed_ms) == 0 and int(committed_n) == 0:
        return 0
    return int(redis.xtrim(stream_key(partition), minid=bound, approximate=True))
