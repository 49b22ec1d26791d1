"""Reads a shop's own log (CSV, JSON lines, Parquet, also zipped) into cleaned wire events in the order of time."""

from __future__ import annotations

import dataclasses
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson

from streams.logs.columns import NUMBERS, Lines, LogError, event_times_ms, number_column
from streams.logs.devices import scene_of_user_agent
from streams.logs.files import frame
from streams.logs.mapping import Mapping, Rule, Source, fitting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Objects = NDArray[np.object_]

__all__ = ["Cleaning", "Log", "LogError", "LogEvent", "of_users", "read_log"]


class LogEvent(NamedTuple):
    """One wire event: `stream` is the attribute of schemas.topics.Topics that names its topic."""

    ts_ms: int
    stream: str
    key: bytes
    value: bytes


@dataclass(frozen=True)
class Cleaning:
    """What became of the lines of a log: `lines` = `events` + the sum of `dropped` (reason -> lines)."""

    lines: int
    events: int
    dropped: dict[str, int]

    def __str__(self) -> str:
        parts = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items())
        return f"{self.lines:,} lines: {self.events:,} events" + (f"; left out: {parts}" if parts else "")


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


def read_log(path: str | Path, mapping: Mapping) -> Log:
    """Read, clean, map and sort a whole log. Raises LogError; needs the `train` extra."""
    path = Path(path)
    lines = Lines(frame(path, mapping.delimiter, mapping.encoding))
    missing = sorted(mapping.columns - set(lines.names))
    if missing:
        msg = (
            f"{path.name} has no column {', '.join(map(repr, missing))}, which the mapping {mapping.name} names;"
            f" its columns are {', '.join(map(repr, lines.names))}.{fitting(lines.names)}"
        )
        raise LogError(msg)
    dropped: Counter[str] = Counter()
    total = len(lines)
    lines, kinds, times_ms = _clean(lines, mapping, dropped)
    events = _events(lines, mapping, kinds, times_ms)
    items = _items(lines, mapping, times_ms)
    counts = {reason: count for reason, count in dropped.items() if count}
    return Log(mapping.name, mapping.zone, events, items, Cleaning(total, len(events), counts))


def of_users(log: Log, users: int) -> Log:
    """The log of `users` users with their whole histories, chosen by a hash of the id: the same ones every time."""
    ranked = sorted({event.key for event in log.events}, key=lambda key: (zlib.crc32(key), key))
    kept = set(ranked[:users])
    return dataclasses.replace(log, events=[event for event in log.events if event.key in kept])


def _clean(lines: Lines, mapping: Mapping, dropped: Counter[str]) -> tuple[Lines, Objects, NDArray[np.int64]]:
    """The lines that are events with their kinds and times, counting the others under the first reason that holds."""
    import numpy as np

    alive = np.ones(len(lines), np.bool_)

    def drop(reason: str, bad: Bools) -> None:
        dropped[reason] += int((bad & alive).sum())
        alive[bad] = False

    drop("duplicate", lines.duplicated())
    for reason, name in (("no user", "user_id"), ("no item", "item_id")):
        drop(reason, _texts(lines, mapping.event[name]) == None)  # noqa: E711  (element by element)
    for rule in mapping.drops:
        drop(rule.then, _holds(lines, rule))
    times_ms = event_times_ms(lines[mapping.time_column], mapping.time_unit, mapping.time_zone)
    drop("no time", times_ms <= 0)
    kinds = np.full(len(lines), None, object)
    for rule in reversed(mapping.kinds):
        kinds[_holds(lines, rule)] = rule.then
    drop("no kind", kinds == None)  # noqa: E711
    for name in NUMBERS & set(mapping.event):
        values = number_column(_texts(lines, mapping.event[name]))
        drop("bad number", np.isinf(values) | ((values < 0) & (name != "quantity")))
    return lines.where(alive), kinds[alive], times_ms[alive]


def _holds(lines: Lines, rule: Rule) -> Bools:
    import numpy as np

    if rule.column is None:
        return np.ones(len(lines), np.bool_)
    if rule.matches is not None:
        return lines.matches(rule.column, rule.matches)
    values = number_column(lines.texts(rule.column))
    held = ~np.isnan(values)
    if rule.above is not None:
        held &= values > rule.above
    if rule.below is not None:
        held &= values < rule.below
    return held


def _texts(lines: Lines, source: Source) -> Objects:
    """The text of a source for every line, None where there is none."""
    import numpy as np

    if source.constant is not None:
        return np.full(len(lines), source.constant, object)
    parts = [lines.texts(column) for column in source.columns]
    joined = parts[0] if len(parts) == 1 else _join(parts, source.join)
    if not source.values:
        return joined
    return np.array([source.values.get(text, source.default) for text in joined.tolist()], object)


def _join(parts: list[Objects], join: str) -> Objects:
    """Texts of several columns joined up to the first missing one."""
    import numpy as np

    joined = []
    for row in zip(*(part.tolist() for part in parts), strict=True):
        present = row[: row.index(None)] if None in row else row
        joined.append(join.join(present) or None)
    return np.array(joined, object)


def _fields(lines: Lines, sources: dict[str, Source]) -> list[tuple[str, list[Any]]]:
    """Wire fields and their values by line, numbers as numbers; None where a line has none."""
    fields = []
    for name, source in sources.items():
        texts = _texts(lines, source)
        if name not in NUMBERS:
            fields.append((name, texts.tolist()))
            continue
        values = abs(number_column(texts)).tolist()
        whole = name in {"quantity", "dwell_ms"}
        fields.append((name, [None if value != value else int(value) if whole else value for value in values]))  # noqa: PLR0124
    return fields


def _events(lines: Lines, mapping: Mapping, kinds: Objects, times_ms: NDArray[np.int64]) -> list[LogEvent]:
    import numpy as np

    fields = _fields(lines, dict(mapping.event))
    scenes = _scenes(lines, mapping)
    users = dict(fields)["user_id"]
    order = np.argsort(times_ms, kind="stable").tolist()
    kind_list, time_list = kinds.tolist(), times_ms.tolist()
    encoder, buffer = msgspec.json.Encoder(), bytearray()
    events = []
    for i in order:
        kind = kind_list[i]
        body = {"kind": kind, "ts_ms": time_list[i]}
        body |= {name: value for name, values in fields if (value := values[i]) is not None}
        if scenes[i]:
            body["scene"] = msgspec.Raw(scenes[i])
        encoder.encode_into(
            body, buffer
        )  # one buffer for all: a dumps() a line leaves a hole of a kilobyte behind each
        events.append(LogEvent(time_list[i], mapping.streams[kind], users[i].encode(), bytes(buffer)))
    return events


def _scenes(lines: Lines, mapping: Mapping) -> list[bytes]:
    """The JSON scene of every line, b"" for none; equal scenes are built once."""
    fields = _fields(lines, dict(mapping.scene))
    names = [name for name, _ in fields]
    built: dict[tuple[Any, ...], bytes] = {(): b""}
    scenes = []
    for row in zip(*(values for _, values in fields), strict=True):
        scene = built.get(row)
        if scene is None:
            scene = built[row] = _scene(dict(zip(names, row, strict=True)))
        scenes.append(scene)
    return scenes or [b""] * len(lines)


def _scene(values: dict[str, Any]) -> bytes:
    agent = values.pop("user_agent", None)
    scene = dict(scene_of_user_agent(agent)) if agent else {}
    scene |= {name: value for name, value in values.items() if value is not None}
    return orjson.dumps(scene) if scene else b""


def _items(lines: Lines, mapping: Mapping, times_ms: NDArray[np.int64]) -> dict[str, dict[str, Any]]:
    """Wire items by id: each field has its most frequent value, ts_ms is the newest mention."""
    ids = _texts(lines, mapping.event["item_id"]).tolist()
    items: dict[str, dict[str, Any]] = {}
    for item_id, ts_ms in sorted(zip(ids, times_ms.tolist(), strict=True), key=lambda pair: pair[1]):
        items[item_id] = {"item_id": item_id, "ts_ms": ts_ms}
    for name, values in _fields(lines, dict(mapping.item)):
        pairs = Counter(zip(ids, values, strict=True))
        for item_id, value in sorted((pair for pair in pairs if pair[1] is not None), key=lambda pair: pairs[pair]):
            items[item_id][name] = value
    return items


def mapped(lines: Lines, mapping: Mapping) -> tuple[list[LogEvent], dict[str, int]]:
    """Events of some lines of a log in the order of time, and the lines left out by reason; twins among them once."""
    dropped: Counter[str] = Counter()
    kept, kinds, times_ms = _clean(lines, mapping, dropped)
    return _events(kept, mapping, kinds, times_ms), {reason: count for reason, count in dropped.items() if count}
