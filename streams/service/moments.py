"""Moments as people type them: an ISO 8601 time, or how long ago."""

import re
from datetime import UTC, datetime

UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_WAYS = 'give a time like 2026-03-01T08:30 (UTC unless it says otherwise), or how long ago: "90s", "15m", "2h", "7d"'


def moment(text: str, now_ms: int) -> int:
    """The moment in ms since 1970; raises ValueError with a sentence."""
    text = text.strip()
    if text == "now":
        return now_ms
    if ago := _AGO.fullmatch(text):
        return max(0, now_ms - round(float(ago[1]) * UNITS_MS[ago[2]]))
    try:
        when = datetime.fromisoformat(text)
        when_ms = round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        msg = f"{text!r} is no time: {_WAYS}."
        raise ValueError(msg) from None
    if when_ms < 0:
        msg = f"{text!r} is before 1970: {_WAYS}."
        raise ValueError(msg)
    return when_ms


def ago(ms: float) -> str:
    """A length of time in the largest unit that fits, such as "3 h"."""
    for unit, size_ms in reversed(UNITS_MS.items()):
        if ms >= size_ms and unit != "w":
            return f"{ms / size_ms:.0f} {'min' if unit == 'm' else unit}"
    return f"{max(0, ms) / 1000:.0f} s"
