"""What the names of keys depend on: in a Redis Cluster, keys that one command uses have to be on one node.

A node is chosen by what stands in braces. A server alone needs none, and keeps the names that it always had: while
versions run side by side, their processes find each other's locks and tokens.
"""

from __future__ import annotations

from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.cluster import RedisCluster


def is_cluster(redis: object) -> bool:
    """Whether a client is one of a Redis Cluster."""
    return isinstance(redis, (RedisCluster, AsyncRedisCluster))


def key_tag(redis: object, number: int) -> str:
    """The number of a partition or webhook as the names of its keys have it, for the server of this client."""
    return f"{{{number}}}" if is_cluster(redis) else str(number)
