"""Looks over a log piece by piece in bounded memory: who and what comes often, what is missing, doubled or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import orjson

from schemas.events import Run, decode_run
from schemas.partition import partitions_of
from streams.features.declaration import Declaration
from streams.logs.cleaning import Cleaner, LogEvent
from streams.logs.columns import Lines, event_times_ms
from streams.logs.mapping import Mapping
from streams.operations.log_times import LogTimes
from streams.operations.tally import Heavy, Sampled

RUN = 2_000
FIRST = 1_000
FOR_EVER_MS = 2**62
TOP = 10
OPTIONAL = ("event_id", "session", "price", "quantity", "dwell_ms", "page", "scene")


@dataclass(frozen=True)
class Rules:
    """How the stream worker would judge: partitions of user topics, the clock, and how far from it a time may lie."""

    partitions: int
    now_ms: int
    max_skew_ms: int
    horizon_ms: int
    max_value_bytes: int


class Wire(NamedTuple):
    """A record as a topic would hold it, and when Kafka took it, negative where nobody knows."""

    key: bytes | None
    value: bytes | None
    heard_ms: int = -1


class LogSurvey:
    """Gathers what is told of a log; `mapping` makes events of its lines, None where the lines are only looked at."""

    def __init__(self, rules: Rules, declaration: Declaration, mapping: Mapping | None) -> None:
        self.rules, self.declaration, self.mapping = rules, declaration, mapping
        self.lines = self.events = 0
        self.times = LogTimes(rules.now_ms, rules.max_skew_ms, rules.horizon_ms)
        self.users, self.items, self.kinds = Heavy(), Heavy(), Heavy()
        self.distinct_users, self.distinct_items, self.records = Sampled(), Sampled(), Sampled()
        self.by_event_id = mapping is not None and "event_id" in mapping.event
        self.cleaner = None if mapping is None else Cleaner(mapping)
        self.rejects: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.by_partition = np.zeros(rules.partitions, np.int64)
        self._missing: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self.first: list[dict[str, Any]] = []

    def add(self, lines: Lines) -> None:
        """Look over the next lines of a log."""
        for name in {**self._missing, **dict.fromkeys(lines.names)}:
            before = self._missing.get(name, self.lines)
            self._missing[name] = before + (_absent(lines, name) if name in lines.names else len(lines))
        self.lines += len(lines)
        hashes = lines.hashes(self._identity(lines))
        self.records.add(hashes[hashes != 0])
        if self.mapping is None or self.cleaner is None:
            return
        times_ms = event_times_ms(lines[self.mapping.time_column], self.mapping.time_unit, self.mapping.time_zone)
        self.times.add(times_ms)
        self._unknown_kinds(lines)
        self._events(self.cleaner.events(lines))

    def add_records(self, records: Sequence[Wire], kinds: frozenset[str], home: tuple[int, int]) -> None:
        """Look over the next records of one partition of a topic, as the stream worker would."""
        self.lines += len(records)
        self.by_partition[home[0]] += len(records)
        self._records(records, self._judge(records, kinds, home))
        if len(self.first) < FIRST:
            self.first += _objects(records)

    def add_wire(self, lines: Lines) -> None:
        """Look over the next lines of a file of events in our own schema, one JSON object a line."""
        self.lines += len(lines)
        rows = ({name: value for name, value in row.items() if value is not None} for row in lines.rows())
        records = [Wire(str(row.get("user_id", "")).encode(), orjson.dumps(row)) for row in rows]
        self._place([record.key or b"" for record in records])
        every = frozenset(kind.wire for kind in self.declaration.kinds)
        for at in range(0, len(records), RUN):
            self._records(records[at : at + RUN], self._judge(records[at : at + RUN], every, None))

    def _place(self, keys: Sequence[bytes]) -> None:
        """Count the keys by the partition that they belong to."""
        homes = partitions_of(keys, self.rules.partitions)
        self.by_partition += np.bincount(homes, minlength=self.rules.partitions)

    def _identity(self, lines: Lines) -> list[str]:
        """Columns that make a line the same as another."""
        if self.by_event_id and self.mapping is not None:
            return list(self.mapping.event["event_id"].columns) or list(lines.names)
        return list(lines.names)

    def _events(self, events: Sequence[LogEvent]) -> None:
        self._place([event.key for event in events])
        by_stream: dict[str, list[Wire]] = {}
        for event in events:
            by_stream.setdefault(event.stream, []).append(Wire(event.key, event.value))
        for stream, records in by_stream.items():
            kinds = self.declaration.wire_kinds(stream)
            for at in range(0, len(records), RUN):
                self._judge(records[at : at + RUN], kinds, None)

    def _judge(self, records: Sequence[Wire], kinds: frozenset[str], home: tuple[int, int] | None) -> Run:
        rules = self.rules
        run = decode_run(
            records,
            kinds=kinds,
            now_ms=rules.now_ms,
            max_skew_ms=rules.max_skew_ms,
            # A file is judged by its times as a whole: what is too old for a worker may be wanted all the same.
            horizon_ms=rules.horizon_ms if home else FOR_EVER_MS,
            max_value_bytes=rules.max_value_bytes,
            home=home,
            heard_ms=[record.heard_ms for record in records] if home else (),
        )
        self.events += len(run.events)
        self.rejects.update(reject.reason for reject in run.rejects)
        self.results.update(run.results)
        self.users.add(run.users)
        self.items.add(run.items)
        self.kinds.add(run.kinds)
        self.distinct_users.add(_spread([user.encode() for user in run.users]))
        self.distinct_items.add(_spread([item.encode() for item in run.items]))
        return run

    def _records(self, records: Sequence[Wire], run: Run) -> None:
        """What is told of records that are events already: times, what is missing, doubles, kinds that are unknown."""
        self.times.add(np.array(run.ts_ms, np.int64))
        for name in OPTIONAL:
            self._missing[name] += len(records) - sum(bool(getattr(event, name)) for event in run.events)
        ids = {index: event.event_id for index, event in zip(run.index, run.events, strict=True) if event.event_id}
        self.by_event_id |= bool(ids)
        self.records.add(_spread([_identity(record, ids.get(i)) for i, record in enumerate(records)]))
        for reject in run.rejects:
            if reject.reason == "kind":
                found = next(_objects([records[reject.index]]), {})
                self._unknown[str(found.get("kind"))[:80]] += 1

    def _unknown_kinds(self, lines: Lines) -> None:
        """Values of the column that names the kind which no rule takes, counted under "kind column = value"."""
        columns = {rule.column for rule in self.mapping.kinds if rule.matches} if self.mapping is not None else set()
        for column in sorted(column for column in columns if column is not None):
            texts = lines.texts(column)
            taken = np.zeros(len(lines), np.bool_)
            for rule in self.mapping.kinds if self.mapping is not None else ():
                if rule.column == column and rule.matches:
                    taken |= lines.matches(column, rule.matches)
            counts = Counter(text for text in texts[~taken].tolist() if text is not None)
            for word, n in counts.most_common(20):
                self._unknown[f"{column} = {word}"] += n

    @property
    def missing(self) -> dict[str, float]:
        """Share of lines that lack a value, by column."""
        return {name: n / max(self.lines, 1) for name, n in self._missing.items()}

    def facts(self) -> dict[str, Any]:
        """All of it as plain values."""
        total = int(self.by_partition.sum())
        largest = int(self.by_partition.argmax()) if total else 0
        return {
            "lines": self.lines,
            "events": self.events,
            "users": {"distinct": self.distinct_users.distinct, "top": _top(self.users)},
            "items": {"distinct": self.distinct_items.distinct, "top": _top(self.items)},
            "kinds": {"known": {hit.value: hit.n for hit in self.kinds.top(50)}, "unknown": dict(self._unknown)},
            "time": self.times.facts(),
            "missing": self.missing,
            "duplicates": {
                "by": "event_id" if self.by_event_id else "the whole record",
                "n": self.records.repeated,
                "exact": self.records.exact,
            },
            "partitions": {
                "count": self.rules.partitions,
                "largest": largest,
                "records": int(self.by_partition[largest]) if total else 0,
                "share": float(self.by_partition[largest]) / total if total else 0.0,
            },
            "left_out": self.cleaner.cleaning.dropped if self.cleaner else {},
            "rejects": dict(self.rejects),
            "results": {name: n for name, n in self.results.items() if n},
        }


def _objects(records: Sequence[Wire]) -> Iterator[dict[str, Any]]:
    """Values that are JSON objects."""
    for record in records:
        try:
            value = orjson.loads(record.value or b"")
        except orjson.JSONDecodeError:
            continue
        if isinstance(value, dict):
            yield value


def _identity(record: Wire, event_id: str | None) -> bytes:
    """What makes a record the same as another: its event id where it has one."""
    return event_id.encode() if event_id else b"\0".join((record.key or b"", record.value or b""))


def _top(heavy: Heavy) -> list[dict[str, Any]]:
    return [
        {"id": hit.value, "n": hit.n, "error": hit.error, "share": hit.n / max(heavy.total, 1)}
        for hit in heavy.top(TOP)
    ]


def _absent(lines: Lines, name: str) -> int:
    column = lines[name]
    blank = column.isna() | (column.astype(str).str.strip() == "") if column.dtype == object else column.isna()
    return int(blank.sum())


def _spread(values: Sequence[bytes]) -> Any:
    """64-bit hashes of values."""
    digests = [blake2b(value, digest_size=8).digest() for value in values]
    return np.frombuffer(b"".join(digests), np.uint64)
