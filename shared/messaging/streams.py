"""Partitioned Redis streams: where events wait, in order, until their effects are committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import RedisError

FIELD = b"e"
# XRANGE counts entries and not bytes, so the server stops for us; it copies a few entries more than it answers with.
READ = """
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
      found[#found + 1] = after
      found[#found + 1] = body
      wanted, room = wanted - 1, room - (body and #body or 0)
      if room <= 0 then break end
    end
  end
  return found
end
"""
"""Lua that reads a stream after an entry: up to so many, and none after those whose bodies reach so many bytes."""
_READ_WITHIN = READ + "return read(KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4])"
# All or nothing in one answer: a transaction is confirmed command by command, and a client reads each confirmation.
APPEND_ALL = """
for at, key in ipairs(KEYS) do redis.call('XADD', key, '*', ARGV[1], ARGV[at + 1]) end
return #KEYS
"""
"""Appends one entry to each of its keys' streams: the arguments are `FIELD` and then the entries' JSON."""
MAX_COUNTED = 1000
"""Where entries have to be counted one by one, a lag goes no further."""


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
    """What of a partition is not evaluated yet: how many entries, and the age of the oldest in seconds."""

    entries: int
    seconds: float


def stream_key(partition: int) -> str:
    """The stream of a partition; the braces keep a partition's keys on one node of a Redis Cluster."""
    return f"hookline:events:{{{partition}}}"


def read_after(redis: Redis, partition: int, offset: str, count: int) -> list[Entry]:
    """Up to `count` entries after an offset, oldest first."""
    raw: Any = redis.xrange(stream_key(partition), min=f"({offset}", max="+", count=count)
    return [Entry(entry_id.decode(), fields.get(FIELD)) for entry_id, fields in raw]


def read_within(redis: Redis, partition: int, offset: str, count: int, max_bytes: int) -> list[Entry]:
    """Up to `count` entries after an offset, oldest first, and none after those whose bodies reach `max_bytes`.

    So memory is bounded whatever was appended: a body of any size is still read, but with nothing after it.
    """
    read: Any = redis.register_script(_READ_WITHIN)
    return entries_of(read(keys=[stream_key(partition)], args=[offset, count, max_bytes, FIELD]))


def entries_of(found: list[Any]) -> list[Entry]:
    """What the `read` of `READ` found."""
    return [Entry(entry_id.decode(), body) for entry_id, body in zip(found[::2], found[1::2], strict=True)]


def lags(redis: Redis, offsets: dict[int, tuple[str, int]], now_seconds: float) -> dict[int, Lag]:
    """The lag of each partition.

    Args:
        offsets: for each partition its committed offset and how many entries were ever read from it.
        now_seconds: Unix time.
    """
    pipeline = redis.pipeline(transaction=False)
    for partition, (offset, _read) in offsets.items():
        pipeline.xrange(stream_key(partition), min=f"({offset}", max="+", count=1)
        pipeline.xinfo_stream(stream_key(partition))
    answers = iter(pipeline.execute(raise_on_error=False))
    found = {}
    for partition, (offset, read) in offsets.items():
        first, info = next(answers), next(answers)
        if isinstance(first, RedisError):
            raise first
        if not first or isinstance(info, RedisError):
            found[partition] = Lag(0, 0.0)
            continue
        # The server counts what was ever added, and what it trimmed was read before.
        waiting = int(info["entries-added"]) - read
        if not 1 <= waiting <= int(info["length"]):
            # It counts anew: this is another stream than the one that was read from.
            waiting = len(read_after(redis, partition, offset, MAX_COUNTED))
        oldest_seconds = int(first[0][0].partition(b"-")[0]) / 1000
        found[partition] = Lag(waiting, max(0.0, now_seconds - oldest_seconds))
    return found


def trim(redis: Redis, partition: int, offset: str, keep_since_ms: int) -> int:
    """Drop entries that are both evaluated and older than the retention; whole internal nodes only, which is cheap."""
    committed_ms, _, committed_n = offset.partition("-")
    bound = offset if int(committed_ms) < keep_since_ms else f"{keep_since_ms}-0"
    if int(committed_ms) == 0 and int(committed_n) == 0:
        return 0
    return int(redis.xtrim(stream_key(partition), minid=bound, approximate=True))
