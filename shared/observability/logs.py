"""Logs: one line for each fact, on standard error, in one form for Hookline and for the libraries under it.

Everything goes through the root logger of the standard library, so that a line of uvicorn, celery or alembic looks
like one of Hookline's own. Must not let a secret through: values of secret settings, credentials in URLs and bearer
tokens are masked in the finished line, tracebacks show no variables, and libraries that would print requests or
parameters stay silent below WARNING.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import traceback
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import orjson
import structlog

from shared.observability.log_masking import LogMask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from structlog.typing import EventDict, Processor

    from shared.settings import Settings

HOST = socket.gethostname()

# At INFO or DEBUG these print whole requests, headers or SQL parameters.
_TALKATIVE = ("amqp", "httpcore", "httpx", "kombu", "sqlalchemy")
# One line for each drain, or for each migration step, says nothing at INFO.
_ROUTINE = ("alembic", "celery.app.trace", "celery.worker.strategy")
# These bring handlers of their own.
_BRIDGED = ("celery", "celery.task", "celery.redirected", "uvicorn", "uvicorn.access", "uvicorn.error")


# One list object for the life of the process: a logger in use keeps the one it began with.
_CHAIN: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


def configure_logging(settings: Settings, process: str, *, file: str | None = None) -> None:
    """Send every log line of this process to standard error, or to a file, in the format the settings ask for.

    `process` names it on each line: `up`, `api`, `dispatcher`, `worker`. May be called again. A Celery worker calls
    it from the `setup_logging` signal, whose receivers keep Celery from installing handlers of its own.
    """
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *_CHAIN, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = _Handler(Path(file).open("a", encoding="utf-8") if file else sys.stderr)  # noqa: SIM115 - for good
    formatter = _MaskingFormatter(settings, process)
    handler.setFormatter(formatter)
    handler.joined = formatter.joined if writes_json(settings) else None
    logging.root.handlers[:] = [handler]
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


def traceback_places(exc: BaseException, *, last: int = 8) -> list[str]:
    """The innermost `last` places that an exception came through, as `file:line function`.

    For where the exception's own text may hold a secret, which a traceback would print.
    """
    frames = traceback.extract_tb(exc.__traceback__)[-last:]
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]


def log_many(name: str, event: str, lines: Iterable[Mapping[str, Any]]) -> None:
    """One INFO line of the logger `name` for each of `lines`, its facts; as JSON all of them in one piece.

    For what happens thousands of times a second: a line costs a tenth of what it does alone. They carry one time.
    """
    handler = next((one for one in logging.root.handlers if isinstance(one, _Handler)), None)
    if handler is not None and handler.joined is not None:
        about = {"timestamp": _now(), "level": "info", "event": event, "logger": name}
        if logging.getLogger(name).isEnabledFor(logging.INFO):
            handler.write(handler.joined({**about, **line} for line in lines))
        return
    for line in lines:
        structlog.stdlib.get_logger(name).info(event, **line)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


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


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines, and of one that can't be made only says so."""

    joined: Callable[[Iterable[Mapping[str, Any]]], str] | None = None
    """Makes one text of many JSON lines; None where lines are for people."""

    def write(self, text: str) -> None:
        """Write whole lines as they are."""
        with self.lock or nullcontext(), suppress(OSError, ValueError):
            self.stream.write(text)
            self.flush()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        """The standard library's own would print the arguments of the line, and any secret in them."""
        kind = sys.exc_info()[0]
        text = f"a log line is lost: {kind.__name__ if kind else 'unknown error'}"
        lost = logging.LogRecord(record.name, logging.ERROR, __file__, 0, text, None, None)
        with suppress(OSError, ValueError):
            self.stream.write(self.format(lost) + self.terminator)


class _MaskingFormatter(structlog.stdlib.ProcessorFormatter):
    """Renders a line of any logger, and blots out secrets last."""

    def __init__(self, settings: Settings, process: str) -> None:
        def name_process(_logger: Any, _method: str, event: EventDict) -> EventDict:
            event.update(self._place())
            event.pop("color_message", None)  # uvicorn says everything twice
            return event

        first = structlog.stdlib.ProcessorFormatter.remove_processors_meta
        super().__init__(foreign_pre_chain=_CHAIN, processors=[first, name_process, *_rendering(settings)])
        self._process = process
        self._for_people = not writes_json(settings)
        self._mask = LogMask(settings)

    def _place(self) -> dict[str, Any]:
        """Where a line comes from; a person at a terminal knows the host."""
        if self._for_people:
            return {"process": self._process}
        return {"process": self._process, "host": HOST, "pid": os.getpid()}

    def joined(self, lines: Iterable[Mapping[str, Any]]) -> str:
        """The lines as JSON, one after the other, without secrets."""
        place = self._place()
        rendered = (orjson.dumps({**line, **place}, default=repr, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
        return self._mask(b"".join(rendered).decode())

    def format(self, record: logging.LogRecord) -> str:
        return self._mask(super().format(record))


def _rendering(settings: Settings) -> list[Processor]:
    if writes_json(settings):
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # plain_traceback because the default one shows local variables, and secrets among them.
    return [
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
    ]
