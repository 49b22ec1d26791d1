"""Makes wire events of the lines of a log under a mapping, piece by piece, and counts those left out by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson

from streams.logs.catalogue import Catalogue
from streams.logs.columns import NUMBERS, Lines, event_times_ms, number_column
from streams.logs.devices import scene_of_user_agent
from streams.logs.mapping import Mapping, Rule, Source
from streams.logs.twins import Twins

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Objects = NDArray[np.object_]


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


class Cleaner:
    """The lines of one log, piece by piece; `catalogue` is what they say of items."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping, self.catalogue = mapping, Catalogue()
        self._lines = self._events = 0
        self._dropped: Counter[str] = Counter()
        self._twins = Twins()

    @property
    def cleaning(self) -> Cleaning:
        """What became of all lines so far."""
        return Cleaning(self._lines, self._events, {reason: n for reason, n in self._dropped.items() if n})

    def events(self, lines: Lines) -> list[LogEvent]:
        """Events of the next lines in the order of the file. Raises LogError for a column that has lost digits."""
        self._lines += len(lines)
        lines, kinds, times_ms = self._clean(lines)
        fields, times = _fields(lines, dict(self.mapping.event)), times_ms.tolist()
        found = _wire(self.mapping, kinds.tolist(), times, fields, _scenes(lines, self.mapping))
        self._events += len(found)
        self.catalogue.add(dict(fields)["item_id"], times, _fields(lines, dict(self.mapping.item)))
        return found

    def _clean(self, lines: Lines) -> tuple[Lines, Objects, NDArray[np.int64]]:
        """The lines that are events with their kinds and times; the others count under the first reason that holds."""
        import numpy as np

        mapping = self.mapping
        alive = np.ones(len(lines), np.bool_)

        def drop(reason: str, bad: Bools) -> None:
            self._dropped[reason] += int((bad & alive).sum())
            alive[bad] = False

        drop("duplicate", self._twins.among(lines.hashes()))
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


def _wire(
    mapping: Mapping,
    kinds: Sequence[str],
    times_ms: Sequence[int],
    fields: Sequence[tuple[str, list[Any]]],
    scenes: Sequence[bytes],
) -> list[LogEvent]:
    users = dict(fields)["user_id"]
    encoder, buffer = msgspec.json.Encoder(), bytearray()
    events = []
    for i, kind in enumerate(kinds):
        body = {"kind": kind, "ts_ms": times_ms[i]}
        body |= {name: value for name, values in fields if (value := values[i]) is not None}
        if scenes[i]:
            body["scene"] = msgspec.Raw(scenes[i])
        # One buffer for all: a dumps() a line leaves a hole of a kilobyte behind each.
        encoder.encode_into(body, buffer)
        events.append(LogEvent(times_ms[i], mapping.streams[kind], users[i].encode(), bytes(buffer)))
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
