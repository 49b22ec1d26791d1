"""Structured logs on the real stderr, as text or JSON, with repeated lines of a failing client held back."""

import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
CHATTY = ("aiokafka", "kafka", "faust", "mode")
OWN = ("schemas.", "streams.", "model_server.")
QUIET_S = 10.0


def setup(format: str, level: str, stream: TextIO | None = None) -> None:  # noqa: A002 - the setting's name
    """Log to stderr from `level` up; everything passed as `extra=` becomes a field of its own.

    The stream is the process's first stderr: mode replaces sys.stdout and sys.stderr and would feed logs to itself.
    """
    handler = logging.StreamHandler(stream or sys.__stderr__)
    handler.setFormatter(Json() if format == "json" else Text())
    handler.addFilter(said_at_the_end)
    handler.addFilter(Repeats())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(capture=True)


class Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class Text(logging.Formatter):
    """Time, level, logger, message and the extra fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        extra = "".join(f" {name}={value}" for name, value in _extra(record).items())
        line = f"{_time(record):%H:%M:%S} {record.levelname.lower():7} {record.name}: {record.getMessage()}{extra}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def said_at_the_end(record: logging.LogRecord) -> bool:
    """False for an error of Kairos's own that a library reports: its sentence closes the log, without a traceback."""
    error = record.exc_info[1] if record.exc_info else None
    return not record.name.startswith(CHATTY) or not type(error).__module__.startswith(OWN)


class Repeats(logging.Filter):
    """Lets a chatty library say the same thing once in ten seconds and adds how often it was held back.

    While a broker is away aiokafka logs about a hundred lines a second.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        self.said: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(CHATTY):
            return True
        place = (record.pathname, record.lineno, record.name)
        last_s, held = self.said.get(place, (float("-inf"), 0))
        now_s = self.clock()
        if now_s - last_s < QUIET_S:
            self.said[place] = (last_s, held + 1)
            return False
        self.said[place] = (now_s, 0)
        if held:
            record.held_back = held
        return True


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}
