"""`hookline.run`: a training's run, from `running` over its metrics to how it ended.

    with hookline.run(project="digits", config={"lr": 0.1}) as run:
        for step, loss in enumerate(train()):
            run.log({"loss": loss})

Nothing here raises into the training: not for a value that is no number, not while Hookline is away, not without
HOOKLINE_URL, where a run does nothing. Only a call that can't be meant (no project) raises, at once.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hookline import background, configuration, events, ids, ranks, transport, values
from hookline.errors import InvalidConfiguration

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from typing_extensions import Self

    from hookline.background import Background
    from hookline.events import Level, State

log = logging.getLogger("hookline")
HEARTBEAT_SECONDS = 120.0
_BEATS = 4
"""How many beats fit into the time after which Hookline takes a run for dead."""
_MAX_METRIC_BYTES = 256 << 10
JOINED = {"id": "HOOKLINE_RUN_ID", "project": "HOOKLINE_RUN_PROJECT", "name": "HOOKLINE_RUN_NAME"}
"""Variables by which `hookline run -- CMD` tells the command which run it is."""


def run(
    project: str | None = None,
    name: str | None = None,
    *,
    config: object = None,
    id: str | None = None,
    entity: str | None = None,
    author: str = "",
    heartbeat_seconds: float | None = HEARTBEAT_SECONDS,
    handle_signals: bool = True,
    publisher: Background | None = None,
    **members: Any,
) -> Run:
    """Begin a run, and publish that it is `running`. Use it in a `with`, or call `finish`.

    - `config`: what filters find as `config.<key>`: a mapping, a namespace, a dataclass. Secrets are left out.
    - `id`: of an earlier run to go on with it; default a new one.
    - `heartbeat_seconds`: after how long a silence Hookline says that the run crashed; None for never. The run sends
      four beats in that time while it logs nothing.
    - `handle_signals`: whether SIGTERM ends the program as Ctrl-C does, so that the run can say that it was killed.
    - `members`: what filters find as `run.<key>`, such as `group`.

    The run ends `finished`, `failed` when an exception leaves it, or `killed` by Ctrl-C and SIGTERM. Of a distributed
    training only rank zero publishes. In a command under `hookline run`, the first run without an `id` of its own is
    the command's run.

    Raises:
        InvalidConfiguration: without a project, or when HOOKLINE_URL is set but something else is missing.
    """
    return Run(
        project,
        name,
        config=config,
        id=id,
        entity=entity,
        author=author,
        heartbeat_seconds=heartbeat_seconds,
        handle_signals=handle_signals,
        publisher=publisher,
        members=members,
    )


class Run:
    """A run that was begun by `hookline.run`."""

    def __init__(
        self,
        project: str | None,
        name: str | None,
        *,
        config: object,
        id: str | None,
        entity: str | None,
        author: str,
        heartbeat_seconds: float | None,
        handle_signals: bool,
        publisher: Background | None,
        members: Mapping[str, Any],
    ) -> None:
        self._is_joined = _joins(project, id)
        if self._is_joined:
            id, project = os.environ[JOINED["id"]], os.environ[JOINED["project"]]
            name = name or os.environ.get(JOINED["name"])
        if not project:
            raise InvalidConfiguration("project: is required: the project that automations watch")
        self.id = id or ids.run_id()
        self.project = project
        self.name = name or self.id
        self.state: State = "running"
        self._members = dict(members)
        self._config = values.config_value(config)
        self._common: events.Common = {"entity": entity, "author": author}
        self._heartbeat_seconds = None if self._is_joined else heartbeat_seconds
        self._step = 0
        self._pid = os.getpid()
        self._publisher = publisher or _publisher(entity)
        self._is_ended = self._has_logged = self._has_warned = False
        self._failure: State | None = None
        self._lock = threading.RLock()  # of the step and the end
        self._stopping = threading.Event()
        if self._publisher is not None:
            self._begin(handle_signals)

    def _begin(self, handle_signals: bool) -> None:
        assert self._publisher is not None  # noqa: S101
        self._running = events.run_state(
            project=self.project,
            run=self._of(),
            state="running",
            heartbeat_seconds=self._heartbeat_seconds,
            **self._common,
        )
        self._publisher.publish(self._running)
        atexit.register(self._end_at_exit)
        _watch_exceptions(self)
        self._former_handler = _handle_sigterm(self) if handle_signals and not self._is_joined else None
        if self._heartbeat_seconds is not None:
            threading.Thread(
                target=self._beat, args=(self._heartbeat_seconds,), name="hookline-beat", daemon=True
            ).start()

    def __repr__(self) -> str:
        return f"<Run {self.id!r} of {self.project!r}, {self.state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.finish(self._failure or state_after(kind, exc))

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as it is published."""
        return dict(self._config)

    @property
    def step(self) -> int:
        """The step that the next `log` has, unless it gives one."""
        return self._step

    def update_config(self, config: object) -> None:
        """Add to the configuration; events from now on have it."""
        try:
            self._config = values.config_value({**self._config, **values.as_mapping(config)})
        except Exception as exc:
            self._warn(exc)

    def add_members(self, **members: Any) -> None:
        """Add to what filters find as `run.<key>`; events from now on have it."""
        self._members |= members

    def log(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Publish metrics of one step. Never raises, never waits for the network.

        Numbers may be Python's, numpy's, torch's; nested names are joined by `.`; what is no number is left out. Steps
        count by themselves, from 0; `step` sets one, and the next follows it. Hookline ignores samples at or before a
        metric's last step.
        """
        try:
            if not self._speaks():
                return
            with self._lock:
                at = self._step if step is None else int(step)
                self._step = at + 1
            self.log_at(metrics, at)
        except Exception as exc:
            self._warn(exc)

    def log_at(self, metrics: Mapping[str, Any], step: int) -> None:
        """As `log`, for metrics that count steps of their own: the run's next step stays as it is."""
        try:
            if not self._speaks():
                return
            for part in _parts(values.samples(metrics)):
                self._publish(
                    events.run_metrics(project=self.project, run=self._of(), step=step, metrics=part, **self._common)
                )
        except Exception as exc:
            self._warn(exc)

    def alert(self, title: str, text: str = "", level: Level = "INFO") -> None:
        """Publish an alert: `INFO`, `WARN` or `ERROR`. Never raises, never waits for the network.

        Control characters become spaces; a title is cut after 512 characters, a text after 4,096.
        """
        try:
            if not self._speaks():
                return
            self._publish(
                events.run_alert(
                    project=self.project,
                    run=self._of(),
                    title=values.clean_name(title),
                    text=values.clean_text(text, events.MAX_TEXT_CHARS),
                    level=level,
                    **self._common,
                )
            )
        except Exception as exc:
            self._warn(exc)

    def finish(self, state: State = "finished", *, timeout_seconds: float | None = None) -> None:
        """End the run, and wait until it is published, for `timeout_seconds` (10) at most. Only the first call counts.

        What is not sent by then stays in the spool. Never raises.
        """
        try:
            with self._lock:
                if not self._speaks():
                    return
                self._is_ended, self.state = True, state
            self._stopping.set()
            _unwatch(self)
            atexit.unregister(self._end_at_exit)
            _restore_sigterm(self._former_handler)
            if not self._is_joined:
                self._publish(events.run_state(project=self.project, run=self._of(), state=state, **self._common))
            if self._publisher is not None:
                self._publisher.flush(timeout_seconds)
        except Exception as exc:
            self._warn(exc)

    def _speaks(self) -> bool:
        """Whether this process began the run and has not ended it. A forked child does not speak for it."""
        return self._publisher is not None and not self._is_ended and self._pid == os.getpid()

    def _publish(self, event: events.Event) -> None:
        self._has_logged = True
        assert self._publisher is not None  # noqa: S101
        self._publisher.publish(event)

    def _of(self) -> events.Run:
        return events.Run(self.id, self.name, config=self._config, **self._members)

    def _beat(self, heartbeat_seconds: float) -> None:
        while not self._stopping.wait(heartbeat_seconds / _BEATS):
            has_logged, self._has_logged = self._has_logged, False
            # What was logged is a beat as well, and beats that wait for Hookline to come back say nothing.
            if self._publisher is None or has_logged or self._publisher.has_unsent:
                continue
            with self._lock:
                if self._is_ended:  # a beat after the end would make the run live again
                    return
                # The same event again, with the same id: it says that the run lives, and fires nothing.
                self._publisher.publish(self._running)

    def _end_at_exit(self) -> None:
        self.finish(self._failure or "finished")

    def _warn(self, exc: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("run %s: %s; further faults of this run are not logged", self.id, exc)


def _publisher(entity: str | None) -> Background | None:
    if not configuration.is_configured() and transport.substituted() is None:
        log.info("HOOKLINE_URL is not set: runs are not published")
        return None
    if not ranks.is_rank_zero():
        return None
    if not entity and configuration.default_entity() is None:
        raise InvalidConfiguration("HOOKLINE_ENTITY: is not set; it must be the team that owns the project")
    return background.shared()


_has_joined = False


def _joins(project: str | None, id: str | None) -> bool:
    """Whether this is the run of the command that `hookline run` started."""
    global _has_joined
    ours, of_project = os.environ.get(JOINED["id"]), os.environ.get(JOINED["project"])
    if _has_joined or id is not None or not ours or not of_project or project not in (None, of_project):
        return False
    _has_joined = True
    return True


def _parts(found: Mapping[str, values.Sample]) -> list[dict[str, values.Sample]]:
    """The samples in as many events as the limits of one event make necessary."""
    parts: list[dict[str, values.Sample]] = []
    size = 0
    for name, value in found.items():
        cost = 6 * len(name) + 32
        if not parts or len(parts[-1]) >= values.MAX_METRICS or size + cost > _MAX_METRIC_BYTES:
            parts.append({})
            size = 0
        parts[-1][name] = value
        size += cost
    return parts


def state_after(kind: type[BaseException] | None, exc: BaseException | None) -> State:
    """The state of a run that an exception leaves, or none."""
    if kind is None or issubclass(kind, GeneratorExit):
        return "finished"
    if issubclass(kind, KeyboardInterrupt):
        return "killed"
    if isinstance(exc, SystemExit):
        return "finished" if exc.code in (None, 0) else "failed"
    return "failed"


_watched: list[Run] = []
_is_watching = False


def _watch_exceptions(run: Run) -> None:
    """Have an exception that ends the program end the run as `failed`, also without a `with`."""
    global _is_watching
    _watched.append(run)
    if _is_watching:
        return
    _is_watching = True
    former = sys.excepthook

    def hook(kind: type[BaseException], exc: BaseException, traceback: TracebackType | None) -> None:
        for one in list(_watched):
            one._failure = one._failure or state_after(kind, exc)
        former(kind, exc, traceback)

    sys.excepthook = hook


def _unwatch(run: Run) -> None:
    with suppress(ValueError):
        _watched.remove(run)


def _handle_sigterm(run: Run) -> Any:
    """Have SIGTERM end the program as Ctrl-C does; not where the program handles it, nor outside of its main thread."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return None
    pid = os.getpid()

    def terminate(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != pid:  # a forked child, which inherited this
            os.kill(os.getpid(), number)
            return
        run._failure = "killed"
        raise SystemExit(128 + number)

    with suppress(ValueError, OSError):
        signal.signal(signal.SIGTERM, terminate)
        return terminate
    return None


def _restore_sigterm(ours: Any) -> None:
    with suppress(ValueError, OSError):
        if ours is not None and signal.getsignal(signal.SIGTERM) is ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
