"""Logging, set up once per process: structured events as JSON lines for machines, or as short lines for people.

Every event carries what is bound in the context: run id, asset, partition. Rooms log with
``structlog.get_logger(__name__)`` and never put a value of a patient into an event.
"""

from __future__ import annotations

import datetime as dt
import logging
import logging.handlers
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import structlog
import structlog.tracebacks

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

    from health_pipeline.settings import Settings

LOG_FILE = "pipeline.jsonl"
_FILE_BYTES, _FILES_KEPT = 20_000_000, 5
_OURS = "_health_pipeline_handler"
QUIET = {
    # The path of every request, which is the secret of a webhook.
    "urllib3": logging.INFO,
    # Two lines whenever Dagster opens a database, which its sensors do all day: within a week they fill the log.
    "alembic": logging.WARNING,
}
"""Libraries whose lower levels are never logged."""


def configure_logging(
    settings: Settings, json: bool = False, *, level: str = "INFO", stream: IO[str] | None = None
) -> None:
    """Send the events of this package and of all libraries to ``stream`` and, always as JSON, to ``<home>/logs``.

    Calling it again replaces what an earlier call set up.

    Args:
        settings: for the home.
        json: JSON lines on the stream; else short lines for people.
        level: least level.
        stream: standard error when left out.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
    ]
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            stamp,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    as_json = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, _record_time],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            # structlog's own dict_tracebacks writes the local variables of every frame too: rows, ids, keys.
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(sort_keys=True, default=str),
        ],
    )
    as_text = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, _record_time],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
    )
    target = stream or sys.stderr
    shown: logging.Handler = logging.StreamHandler(target)
    shown.setFormatter(as_json if json else as_text)
    folder = settings.home / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    kept = _HomeLog(folder / LOG_FILE, maxBytes=_FILE_BYTES, backupCount=_FILES_KEPT, encoding="utf-8", delay=True)
    kept.setFormatter(as_json)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if getattr(handler, _OURS, False)]:
        root.removeHandler(handler)
        handler.close()
    for handler in (shown, kept):
        setattr(handler, _OURS, True)
        root.addHandler(handler)
    root.setLevel(level)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(max(least, logging.getLevelName(level)))


class _HomeLog(logging.handlers.RotatingFileHandler):
    """The log in the home. Where it cannot be written, that is said once, and what was at work goes on."""

    _is_told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (name given by logging)
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._is_told:
            self._is_told = True
            print(f"the log cannot be written: {self.baseFilename}: {error.strerror}", file=sys.stderr)  # noqa: T201


def _record_time(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """Time at which a library logged, the same in every handler."""
    event["timestamp"] = dt.datetime.fromtimestamp(event["_record"].created, dt.UTC).isoformat().replace("+00:00", "Z")
    return event


@contextmanager
def log_context(**values: Any) -> Iterator[None]:
    """Bind run id, asset, partition and the like to every event of the block."""
    with structlog.contextvars.bound_contextvars(**values):
        yield


@contextmanager
def timed(step: str, **values: Any) -> Iterator[dict[str, Any]]:
    """Log the end of a step with its duration, also when it fails.

    Yields:
        A dictionary; what is put into it stands in the event (row counts, for instance).
    """
    log = structlog.get_logger("health_pipeline.steps")
    found: dict[str, Any] = {}
    started = time.perf_counter()
    try:
        yield found
    except BaseException as error:
        seconds = round(time.perf_counter() - started, 3)
        log.error("step.failed", step=step, seconds=seconds, error=type(error).__name__, **values, **found)
        raise
    log.info("step.done", step=step, seconds=round(time.perf_counter() - started, 3), **values, **found)
