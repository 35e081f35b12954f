"""The Celery application that `celery -A worker …` finds: queues, pool, signals, `/metrics`.

The default pool is threads: a drain waits for the network most of the time, and all drains of a process share one event
loop. `--pool prefork` works as well.
"""

from __future__ import annotations

from worker.process.metrics_directory import use_metrics_directory

use_metrics_directory()  # before prometheus_client is imported, which decides then whether processes share their values

import logging
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

import click
from celery import signals
from celery.exceptions import SecurityWarning
from click.core import ParameterSource
from kombu import Queue

from shared.config.descriptors import raise_descriptor_limit
from shared.domain.errors import HooklineError
from shared.observability.heartbeat import beat
from shared.observability.logs import configure_logging, get_logger
from shared.settings import load_settings
from shared.version import __version__
from shared.interpreter import tune_interpreter
from shared.messaging.celery_app import DELIVER_QUEUE, EVALUATE_QUEUE, SLOW_QUEUE, celery_app
from worker.process.presence import WorkerPresence
from worker.process.scoreboard import Scoreboard
from worker.remote_control import register_control
from worker.process.pools import check_pool, idle_options
from worker.process.lazy_process import LazyProcess
from worker.tasks import register

from shared.observability import exposition

if TYPE_CHECKING:
    from worker.bootstrap import WorkerProcess

# Celery warns root because of pickled messages; these are JSON numbers, and nothing else is accepted.
warnings.filterwarnings("ignore", category=SecurityWarning)

# As the default of the option, and not as `worker_pool`: Celery takes `--pool prefork` for its own default, and would
# start the configured pool in its place (celery.bin.worker.WorkersPool).
os.environ.setdefault("CELERY_WORKER_POOL", "threads")

try:
    settings = load_settings()
    app = celery_app(settings)
except HooklineError as exc:
    sys.exit(f"hookline: {exc}")
app.conf.update(
    # As queues and not by name: Flower asks each for its name.
    task_queues=tuple(Queue(name, routing_key=name) for name in (EVALUATE_QUEUE, DELIVER_QUEUE, SLOW_QUEUE)),
    worker_concurrency=settings.worker_threads,
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    hookline_version=__version__,  # `celery report` and `celery inspect report` show every setting
)
_log = get_logger("hookline.worker")
_without_effect: list[str] = []  # told when the log has been set up
scoreboard = Scoreboard()  # before the pool forks, so that all processes have it


def _build_process() -> WorkerProcess:
    # Imported by workers only: this module is also that of every `celery` command, which would wait for it.
    from worker.bootstrap import build_process

    return build_process(load_settings(), app, scoreboard)


lazy = LazyProcess(_build_process)
presence = WorkerPresence(settings, scoreboard)
register(app, lazy)
register_control(settings, scoreboard)


@signals.setup_logging.connect
def _logging(loglevel: int = logging.INFO, logfile: str | None = None, **_kwargs: Any) -> None:
    """`--loglevel` goes before `HOOKLINE_LOG_LEVEL`, but only where it is given: Celery itself says WARNING."""
    context = click.get_current_context(silent=True)
    source = None if context is None else context.get_parameter_source("loglevel")
    given = source in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    level = logging.getLevelName(loglevel) if given else settings.log_level
    configure_logging(settings.model_copy(update={"log_level": level}), "worker", file=logfile)


@signals.celeryd_init.connect
def _start(options: dict[str, Any] | None = None, **_kwargs: Any) -> None:
    options = options or {}
    try:
        _without_effect.extend(idle_options(options))
        check_pool(options.get("pool_cls") or options.get("pool"), autoscale=options.get("autoscale"))
        exposition.serve(settings)
    except HooklineError as exc:
        sys.exit(f"hookline: {exc}")
    raise_descriptor_limit()
    import worker.bootstrap  # noqa: F401 - before the pool forks, and not while the first drains wait for it


@signals.celeryd_after_setup.connect
def _require_storage(instance: Any, **_kwargs: Any) -> None:
    """Refuse to start without keys where this worker sends requests; one that only evaluates never decrypts a secret.

    Any worker is refused behind a pooler that the settings don't name.

    The queues of `-Q` and `-X` are known from this signal on.
    """
    from shared.storage.database.engine import open_engine, try_connection
    from shared.storage.maintenance import installation
    from shared.vault import Vault

    try:
        engine = open_engine(settings)
        try:
            try_connection(engine)
            if {DELIVER_QUEUE, SLOW_QUEUE} & set(instance.app.amqp.queues.consume_from):
                installation.check_keys(engine, settings, Vault.open(settings))
        finally:
            engine.dispose()
    except HooklineError as exc:
        sys.exit(f"hookline: {exc}")


@signals.worker_ready.connect
@signals.worker_process_init.connect
def _begin(**_kwargs: Any) -> None:
    tune_interpreter()


@signals.heartbeat_sent.connect
def _beat(**_kwargs: Any) -> None:
    # From the loop that also takes messages: it stops when that hangs or has lost the broker.
    beat(settings)
    presence.loop_turned()


@signals.worker_ready.connect
def _consuming(sender: Any, **_kwargs: Any) -> None:
    presence.begin(sender)
    for option in _without_effect:
        _log.warning("worker.option_without_effect", option=option, needs="--pool prefork")


@signals.worker_shutting_down.connect
def _ending(**_kwargs: Any) -> None:
    presence.end(wait=False)


@signals.worker_shutdown.connect
@signals.worker_process_shutdown.connect
def _close(**_kwargs: Any) -> None:
    presence.end()
    lazy.close()
