"""Logs: one line for each fact, on standard error, in one form for Hookline and for the libraries under it.

Hookline's own lines are rendered by structlog's processors and written as they are; lines of uvicorn, celery or alembic
come through the root logger of the standard library, and are rendered and written by the same. Must not let a secret
through: values of secret settings, credentials in URLs and bearer tokens are masked in the finished line, tracebacks
show no variables, and libraries that would print requests or parameters stay silent below WARNING.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import traceback
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
import orjson
import structlog

from shared.domain.visible_text import visible, visible_json
from shared.observability.log_masking import LogMask
from shared.observability.repeated_lines import RepeatedLines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import EventDict, Processor

    from shared.settings import Settings

HOST = socket.gethostname()

# At INFO or DEBUG these print whole requests, headers or SQL parameters.
_TALKATIVE = ("amqp", "httpcore", "httpx", "kombu", "sqlalchemy")
# One line for each drain, or for each migration step, says nothing at INFO.
_ROUTINE = ("alembic", "celery.app.trace", "celery.worker.strategy")
# These bring handlers of their own.
_BRIDGED = ("celery", "celery.task", "celery.redirected", "uvicorn", "uvicorn.access", "uvicorn.error")

_NATIVE_TYPES_ONLY = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
"""Values that JSON lacks are logged as their `repr`, which leaves out the fields that a dataclass hides."""

_stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
# Of every line, whoever's it is.
_ABOUT: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    _stamp,
    structlog.processors.StackInfoRenderer(),
)
# One list object for the life of the process: loggers that were used before keep it when logging is configured again.
_processors: list[Processor] = []


def configure_logging(settings: Settings, process: str, *, file: str | None = None) -> None:
    """Send every log line of this process to standard error, or to a file, in the format the settings ask for.

    `process` names it on each line: `up`, `api`, `dispatcher`, `worker`. May be called again. A Celery worker calls
    it from the `setup_logging` signal, whose receivers keep Celery from installing handlers of its own.
    """
    renderer = _Renderer(settings, process)
    output = _Output(Path(file).open("a", encoding="utf-8") if file else sys.stderr, renderer)  # noqa: SIM115 - for good
    _Logger.output = output
    _processors[:] = [structlog.stdlib.filter_by_level, *_ABOUT, RepeatedLines(), renderer]
    structlog.configure(
        processors=_processors,
        logger_factory=_Logger,
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.root.handlers[:] = [output]
    logging.root.setLevel(settings.log_level)
    logging.captureWarnings(True)
    _quiet_libraries(settings.log_level)


def writes_json(settings: Settings) -> bool:
    """Whether this process logs for machines: unless told otherwise, where nobody reads it on a terminal."""
    return settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose calls take an event name and facts: `log.info("delivery.attempted", delivery=id, status=204)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def is_written(name: str, level: int) -> bool:
    """Whether the logger's lines of this level are written, for whoever would make thousands of them a second.

    True as long as logging is not configured.
    """
    return _Logger.output is None or logging.getLogger(name).isEnabledFor(level)


def traceback_places(exc: BaseException, *, last: int = 8) -> list[str]:
    """The innermost `last` places that an exception came through, as `file:line function`.

    For where the exception's own text may hold a secret, which a traceback would print.
    """
    frames = traceback.extract_tb(exc.__traceback__)[-last:]
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]


def _quiet_libraries(level: str) -> None:
    """Route the libraries' own handlers to the root, and keep what must or should not be printed from it."""
    for name in _BRIDGED:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _ROUTINE:
        logging.getLogger(name).setLevel(logging.WARNING if level == "INFO" else logging.NOTSET)


class _Output(logging.StreamHandler[TextIO]):
    """Writes finished lines, those of all threads one after the other; a line that can't be written is dropped."""

    def __init__(self, stream: TextIO, renderer: _Renderer) -> None:
        super().__init__(stream)
        self.setFormatter(_ForeignFormatter(renderer))
        self._renderer = renderer

    def write(self, line: str) -> None:
        """Write a line as it is. The handler's lock is used, which the standard library frees in a forked process."""
        with self.lock or nullcontext(), suppress(OSError, ValueError):
            self.stream.write(line + self.terminator)
            self.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of a library's logger."""
        try:
            line = self.format(record)
        except Exception as exc:  # its arguments do not fit its text
            line = self._renderer.lost(record.name, exc)
        self.write(line)


class _Logger:
    """The end of structlog's chain, in place of `structlog.BytesLogger`: that holds on to the file it began with.

    As in the standard library, a logger's level is its own or the root's.
    """

    output: _Output | None = None
    """Where all of them write, from `configure_logging` on; replaced when logging is configured again."""

    def __init__(self, name: str) -> None:
        self.name = name
        standard = logging.getLogger(name)
        self.disabled = standard.disabled
        self.isEnabledFor = standard.isEnabledFor
        self.getEffectiveLevel = standard.getEffectiveLevel

    def msg(self, line: str) -> None:
        """Write a finished line."""
        if self.output is not None:
            self.output.write(line)

    debug = info = warning = error = critical = exception = msg


class _Renderer:
    """Makes the text of a line, without secrets; of one that can't be made it only says so."""

    def __init__(self, settings: Settings, process: str) -> None:
        self._process = process
        self._for_people = not writes_json(settings)
        self._steps = _console() if self._for_people else (structlog.processors.format_exc_info, _as_json)
        self._mask = LogMask(settings)

    def __call__(self, logger: Any, method: str, event: EventDict) -> str:
        try:
            return self._rendered(logger, method, event)
        except Exception as exc:  # a fact does not let itself be shown
            return self.lost(logger.name if logger else str(event.get("logger")), exc)

    def lost(self, name: str, exc: Exception) -> str:
        """The line that stands in for one of the logger `name`: nothing is shown of its facts, or a secret in them."""
        event = {"event": f"a log line is lost: {type(exc).__name__}", "level": "error", "logger": name}
        return self._rendered(None, "error", _stamp(None, "error", event))

    def _rendered(self, logger: Any, method: str, event: EventDict) -> str:
        event["process"] = self._process
        if not self._for_people:  # a person at a terminal knows the host
            event["host"] = HOST
            event["pid"] = os.getpid()
        line: Any = event
        for step in self._steps:
            line = step(logger, method, line)
        return self._mask(line)


def _as_json(_logger: Any, _method: str, event: EventDict) -> str:
    try:
        text = orjson.dumps(event, default=repr, option=_NATIVE_TYPES_ONLY)
        line = msgspec.json.format(text, indent=0).decode()  # `"level": "info"`, as in the lines of earlier versions
        return line if line.isascii() else visible_json(line)
    except TypeError:  # an integer beyond 64 bits, half a character, a key that is no text
        return json.dumps(event, default=repr)


def _visible(_logger: Any, _method: str, event: EventDict) -> EventDict:
    return {key: visible(value) if isinstance(value, str) else value for key, value in event.items()}


def _console() -> Sequence[Processor]:
    # plain_traceback because the default one shows local variables, and secrets among them.
    return (
        _visible,
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback),
    )


class _ForeignFormatter(structlog.stdlib.ProcessorFormatter):
    """Lines of libraries that log through the standard library, in the same form."""

    def __init__(self, renderer: _Renderer) -> None:
        super().__init__(
            foreign_pre_chain=[*_ABOUT, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _drop_colours, renderer],
        )


def _drop_colours(_logger: Any, _method: str, event: EventDict) -> EventDict:
    event.pop("color_message", None)  # uvicorn says everything twice
    return event
