"""The pools that a worker can be started with: what would fail at the first drain is refused at start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery.concurrency import get_implementation

from shared.domain.errors import HooklineError

_GREEN = ("gevent", "eventlet")
_PREFORK = "prefork"
_OF_PROCESSES = ("time_limit", "soft_time_limit", "max_tasks_per_child", "max_memory_per_child", "pool_start_method")
"""Options that Celery takes with any pool, and that only a pool of processes can follow."""


class UnusablePool(HooklineError):
    """Celery offers a pool, or a way to use one, in which drains can't work."""


def check_pool(pool: str | type | None, *, autoscale: object) -> None:
    """Refuse what drains can't work in.

    Args:
        pool: what `--pool` says, a name or Celery's class; None for the default.
        autoscale: what `--autoscale` says, if anything.

    Raises:
        UnusablePool: saying what to use.
    """
    name = _name(pool)
    if name in _GREEN:
        # Green threads and the event loop that sends stand in each other's way: nothing is sent, and nothing ends.
        raise UnusablePool(f"--pool {name}: can't send; use threads, the default, or prefork or solo")
    # By name: Celery's class of processes learns to grow only when it has started.
    if autoscale and name != _PREFORK:
        raise UnusablePool(
            "--autoscale: needs --pool prefork; a pool of threads starts only as many of -c N as it needs"
        )


def idle_options(options: Mapping[str, object]) -> list[str]:
    """The options of `celery worker` that were given and have no effect with the pool that was given."""
    pool: Any = options.get("pool_cls") or options.get("pool")
    if _name(pool) == _PREFORK:
        return []
    return [f"--{name.replace('_', '-')}" for name in _OF_PROCESSES if options.get(name)]


def _name(pool: str | type | None) -> str:
    """The pool's name in Celery, such as `thread` or `prefork`. Raises UnusablePool where it can't be imported."""
    try:
        return str(get_implementation(pool or "threads").__module__).rpartition(".")[2]
    except ImportError as exc:
        raise UnusablePool(f"--pool {pool}: {exc}; CELERY_CUSTOM_WORKER_POOL names the class of `custom`") from exc
