"""A shop's own log (CSV, JSON lines, Parquet, also zipped) as cleaned wire events, batch by batch or whole."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from streams.logs.cleaning import Cleaner, Cleaning, LogEvent
from streams.logs.columns import Lines, LogError
from streams.logs.mapping import Mapping, fitting
from streams.logs.pieces import PIECE_LINES, Form, pieces

__all__ = ["Cleaning", "Log", "LogError", "LogEvent", "Reading", "of_users", "read_log"]


@dataclass(frozen=True)
class Log:
    """A cleaned log: events sorted by time, ties in the order of the file, and the catalogue they imply."""

    name: str
    zone: str
    events: Sequence[LogEvent]
    items: dict[str, dict[str, Any]]
    cleaning: Cleaning

    @property
    def users(self) -> int:
        return len({event.key for event in self.events})

    def topic_items(self) -> Iterable[tuple[bytes, bytes]]:
        """(key, value) of every item for items.v1."""
        return ((item_id.encode(), orjson.dumps(item)) for item_id, item in self.items.items())


class Reading:
    """A log under a mapping, in the memory of a piece and eight bytes a line; `cleaner` has what it came to so far."""

    def __init__(self, path: Path, mapping: Mapping, lines: int = PIECE_LINES) -> None:
        self.path, self.mapping, self.cleaner, self._lines = path, mapping, Cleaner(mapping), lines

    def batches(self) -> Iterator[list[LogEvent]]:
        """Its events in the order of the file. Raises LogError; needs the `train` extra."""
        form = Form(self.mapping.encoding, self.mapping.delimiter)
        for piece in fitted(pieces(self.path, form, self._lines), self.mapping, self.path.name):
            yield self.cleaner.events(piece)


def read_log(path: str | Path, mapping: Mapping) -> Log:
    """Read, clean, map and sort a log whose events fit into memory. Raises LogError; needs the `train` extra."""
    reading = Reading(Path(path), mapping)
    events = [event for batch in reading.batches() for event in batch]
    events.sort(key=lambda event: event.ts_ms)
    cleaner = reading.cleaner
    return Log(mapping.name, mapping.zone, events, cleaner.catalogue.items(), cleaner.cleaning)


def fitted(found: Iterable[Lines], mapping: Mapping, log: str) -> Iterator[Lines]:
    """The pieces of a log with all columns that the mapping names, which not every piece of JSON lines has.

    Raises LogError for a column that the log has nowhere; for time, user or item as soon as the first piece has none.
    """
    names: dict[str, None] = {}
    for piece in found:
        if not names:
            check_columns(mapping.needed, piece.names, mapping, log)
        names |= dict.fromkeys(piece.names)
        yield piece.having(mapping.columns)
    check_columns(mapping.columns, list(names), mapping, log)


def check_columns(wanted: Iterable[str], names: Sequence[str], mapping: Mapping, log: str) -> None:
    """Raises LogError when a log lacks a wanted column of the mapping."""
    if set(wanted) <= set(names):
        return
    missing = sorted(mapping.columns - set(names))
    msg = (
        f"{log} has no column {', '.join(map(repr, missing))}, which the mapping {mapping.name} names;"
        f" its columns are {', '.join(map(repr, names))}.{fitting(names)}"
    )
    raise LogError(msg)


def of_users(log: Log, users: int) -> Log:
    """The log of `users` users with their whole histories, chosen by a hash of the id: the same ones every time."""
    ranked = sorted({event.key for event in log.events}, key=lambda key: (zlib.crc32(key), key))
    kept = set(ranked[:users])
    return dataclasses.replace(log, events=[event for event in log.events if event.key in kept])
