"""Where a range begins or ends, as people write it: an offset, a time, or how long ago."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from schemas.faults import YEAR_2000_MS
from streams.features.declaration import DeclarationError, length_ms


@dataclass(frozen=True)
class Moment:
    """An offset of every partition, or a time in ms since 1970; `text` is how it was written."""

    text: str
    offset: int | None = None
    ts_ms: int | None = None


def moment(text: str) -> Moment:
    """What `--from` and `--to` say; raises argparse.ArgumentTypeError with a sentence."""
    if text.isdecimal():
        number = int(text)
        if number >= YEAR_2000_MS:
            message = f"{text} is too large for an offset; write a time as {iso(number)}"
            raise argparse.ArgumentTypeError(message)
        return Moment(text, offset=number)
    if (ago_ms := _length(text)) is not None:
        return Moment(text, ts_ms=time.time_ns() // 1_000_000 - ago_ms)
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is no offset (5000), no time (2026-05-01T12:00+02:00) and no length of time (36h)"
        raise argparse.ArgumentTypeError(message) from None
    stamp = stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC)
    return Moment(text, ts_ms=int(stamp.timestamp() * 1000))


def length(text: str) -> int:
    """Milliseconds of a length of time such as 36h; raises argparse.ArgumentTypeError."""
    if text == "0":
        return 0
    if (found_ms := _length(text)) is None:
        message = f"{text!r} is no length of time: write 0, or a number and its unit, as in 36h, 30d or 5min"
        raise argparse.ArgumentTypeError(message)
    return found_ms


def iso(ts_ms: int) -> str:
    """A time as people read it, in UTC, to the second."""
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _length(text: str) -> int | None:
    try:
        return length_ms(text)
    except DeclarationError:
        return None
