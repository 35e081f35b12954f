"""The pools that a worker can be started with: what would fail at the first drain is refused at start."""

from __future__ import annotations

from celery.concurrency import get_implementation

from shared.domain.errors import HooklineError

_GREEN = ("gevent", "eventlet")


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
    chosen = get_implementation(pool or "threads")
    name = chosen.__module__.rpartition(".")[2]
    if name in _GREEN:
        # Green threads and the event loop that sends stand in each other's way: nothing is sent, and nothing ends.
        raise UnusablePool(f"--pool {name}: can't send; use threads, the default, or prefork or solo")
    if autoscale and not hasattr(chosen, "grow"):
        raise UnusablePool(
            "--autoscale: needs --pool prefork; a pool of threads starts only as many of -c N as it needs"
        )
