"""Virtual time: a clock that stands still until it is moved, and times as people write them in a test."""

from __future__ import annotations

from datetime import datetime

from streams.features.declaration import UNITS_MS, length_ms

Moment = str | int | datetime | None
"""A time: "+5min" after the start, "-5min" before now, milliseconds since 1970, ISO 8601 text, a datetime, or now."""

START = "2026-03-02T09:00:00+00:00"
"""A Monday morning."""


class Clock:
    """Milliseconds since 1970, begun at `start`; called, it says what time it is."""

    def __init__(self, start: str | int | datetime = START) -> None:
        self.start_ms = _absolute_ms(start)
        self.now_ms = self.start_ms

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, by: str | int) -> int:
        """Move on by a length such as "5min", or by milliseconds; the new time."""
        self.now_ms += length_ms(by)
        return self.now_ms

    def reach(self, moment_ms: int) -> None:
        """Move on to a time, unless it has passed."""
        self.now_ms = max(self.now_ms, moment_ms)

    def at(self, moment: Moment) -> int:
        """Milliseconds since 1970 of a moment; raises ValueError for a text that is none."""
        if moment is None:
            return self.now_ms
        if isinstance(moment, str) and moment[:1] in {"+", "-"}:
            length = length_ms(moment[1:])
            return self.start_ms + length if moment[0] == "+" else self.now_ms - length
        return _absolute_ms(moment)


def _absolute_ms(moment: str | int | datetime) -> int:
    if isinstance(moment, int):
        return moment
    try:
        read = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError as error:
        text = (
            f"{moment!r} is no time: write +5min (after the start), -5min (before now; units {', '.join(UNITS_MS)}), "
            "milliseconds since 1970, or ISO 8601 with an offset"
        )
        raise ValueError(text) from error
    if read.tzinfo is None:
        text = f"{moment} does not say its zone: add an offset, such as +00:00"
        raise ValueError(text)
    return round(read.timestamp() * 1000)
