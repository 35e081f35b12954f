"""The two tasks. Each takes a key, calls the function that does the work, and answers with how much it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from celery import Celery, Task
from celery.worker.request import Request
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from shared.domain.errors import HooklineError
from shared.messaging.broker_transport import Channel
from shared.messaging.celery_app import PARTITION_TASK, WEBHOOK_TASK
from shared.messaging.drain_messages import ALSO_HEADER
from shared.observability.logs import get_logger
from shared.storage.database.transient_errors import is_transient
from shared.storage.schema.errors import SchemaTooOld
from worker.process.lazy_process import LazyProcess

if TYPE_CHECKING:
    from worker.bootstrap import WorkerProcess

log = get_logger("hookline.tasks")


class DrainInterrupted(HooklineError):
    """What a drain needs is away. Celery's events tell it as a failure, and the log has one line of it already."""


class DrainRequest(Request):
    """Celery's request, which acknowledges from the thread that begins the task.

    Celery lets its loop do that, which it wakes for it. Where nothing is told to the broker there is nothing to do.
    """

    def acknowledge(self) -> None:
        """Let the worker take one more message."""
        if self.acknowledged or not isinstance(self.message.channel, Channel):
            super().acknowledge()
            return
        self.message.ack()
        self.acknowledged = True


def register(app: Celery, lazy: LazyProcess[WorkerProcess]) -> None:
    """Give the drains to a Celery application, under names that do not change when code moves."""

    # Not shared: Celery would give them to every other application of the process too.
    @app.task(name=PARTITION_TASK, Request=DrainRequest, throws=(DrainInterrupted,), shared=False)
    def _drain_partition(partition: int) -> int:
        return run_drain(lazy, PARTITION_TASK, partition)

    @app.task(name=WEBHOOK_TASK, Request=DrainRequest, throws=(DrainInterrupted,), shared=False, bind=True)
    def _drain_webhook(self: Task[Any, Any], webhook_id: int) -> int:
        return run_drain(lazy, WEBHOOK_TASK, webhook_id, also=self.request.get(ALSO_HEADER) or ())


def run_drain(lazy: LazyProcess[WorkerProcess], task: str, key: int, *, also: Sequence[int] = ()) -> int:
    """Run a drain: how many entries it evaluated, or how many attempts it saw the end of, or claimed.

    Nobody stores the answer; it is what `celery events` and Flower show.

    Args:
        lazy: the process's parts.
        task: the name of one of the two tasks.
        key: the partition, or the webhook's number.
        also: the numbers of other webhooks, to be drained together with it.

    Raises:
        DrainInterrupted: where a database or Redis is away, or the schema is older than the code; the pump wakes the
            drain again when they are as they should be.
    """
    try:
        return _run_checked(lazy.get(), task, key, also)
    except SchemaTooOld as exc:
        raise DrainInterrupted(str(exc)) from None
    except (SQLAlchemyError, RedisError, OSError) as exc:
        if isinstance(exc, SQLAlchemyError) and not is_transient(exc):
            raise  # a fault of the schema or of ours: Celery logs all of it
        error = str(exc).partition("\n")[0]
        log.warning("drain.interrupted", drain=task, key=key, error=error)
        raise DrainInterrupted(error) from None


def _run_checked(process: WorkerProcess, task: str, key: int, also: Sequence[int]) -> int:
    process.schema.check()
    drain = process.partitions.drain if task == PARTITION_TASK else process.webhooks.drain
    try:
        return process.joint.drain([key, *also]) if also else drain(key)
    except SQLAlchemyError:
        process.schema.doubt()
        raise
