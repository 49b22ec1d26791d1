"""Which records a replay reads: topics by name, and of every partition the offsets from one moment to another."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from schemas.topics import Topics
from streams.chunks.chunk import LogFacts
from streams.pipeline import Limits
from streams.replay.moments import Moment, iso

Place = tuple[str, int]
"""A topic and one of its partitions."""
WORDS = ("clicks", "browses", "orders", "feedback", "items")


class ReplayError(Exception):
    """A replay cannot be made as asked; the sentence says why, and what there is instead."""

    exit_code = 78


class Range(NamedTuple):
    """Offsets [first, end) of a partition whose log holds [log_start, log_end) now."""

    topic: str
    partition: int
    first: int
    end: int
    log_start: int
    log_end: int
    topic_id: str
    partitions: int

    @property
    def records(self) -> int:
        """At most so many: compaction and transactions leave gaps."""
        return self.end - self.first

    @property
    def base(self) -> LogFacts:
        """What the run's table begins with."""
        return LogFacts(self.topic, self.partition, self.first, self.log_end, self.topic_id, self.partitions)

    @property
    def facts(self) -> LogFacts:
        """What the broker says."""
        return LogFacts(self.topic, self.partition, self.log_start, self.log_end, self.topic_id, self.partitions)


class Times(NamedTuple):
    """By place: the first offset at or after a moment by Kafka's own time, absent where the log ends before it."""

    first: Mapping[Place, int]
    end: Mapping[Place, int]


def chosen(topics: Topics, wanted: Sequence[str]) -> tuple[str, ...]:
    """Full names of the topics asked for, by word or by name; all inputs without any. Raises ReplayError."""
    known = {word: getattr(topics, word) for word in WORDS}
    found = []
    for name in wanted:
        full = known.get(name) or (name if name in known.values() else None)
        if full is None:
            near = difflib.get_close_matches(name, [*known, *known.values()], n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]}?" if near else ""
            message = f"There is no input topic {name}.{hint} Those of this installation: {', '.join(known.values())}."
            raise ReplayError(message)
        found.append(full)
    return tuple(dict.fromkeys(found or known.values()))


def span_of(start: Moment | None, end: Moment | None, lead_in_ms: int) -> tuple[int, int] | None:
    """The event times [from, to) in ms that count; None where neither end is a time."""
    first = start.ts_ms - lead_in_ms if start is not None and start.ts_ms is not None else 0
    last = end.ts_ms if end is not None and end.ts_ms is not None else 1 << 62
    return None if (first, last) == (0, 1 << 62) else (max(first, 0), last)


def looked_up(
    start: Moment | None, end: Moment | None, lead_in_ms: int, limits: Limits
) -> tuple[int | None, int | None]:
    """The Kafka times in ms to look for: earlier than the events by what a producer's clock may be ahead."""
    first = start.ts_ms - lead_in_ms - limits.max_skew_ms if start is not None and start.ts_ms is not None else None
    return None if first is None else max(first, 0), end.ts_ms if end is not None else None


def ranges(
    facts: Sequence[LogFacts], whole: str, start: Moment | None, end: Moment | None, times: Times
) -> list[Range]:
    """What to read of each partition; the topic `whole` is read from its start to its end.

    Raises ReplayError where the log does not hold what is asked for.
    """
    found = []
    for fact in facts:
        place = (fact.topic, fact.partition)
        first, last = fact.log_start, fact.log_end
        if fact.topic != whole:
            first = _first(fact, start, times.first.get(place))
            last = _last(fact, end, times.end.get(place))
        found.append(Range(fact.topic, fact.partition, first, max(last, first), *fact[2:]))
    asked = [fact for fact in facts if fact.topic != whole]
    # A log that is empty has nothing outside of a range either: a run of files may join it before its first event.
    if (
        (start or end)
        and any(f.log_end > f.log_start for f in asked)
        and not any(r.records for r in found if r.topic != whole)
    ):
        message = f"Nothing lies {_between(start, end)}. The log holds {holds(asked)}."
        raise ReplayError(message)
    return found


def holds(facts: Sequence[LogFacts]) -> str:
    """What is there, in words."""
    by_topic: dict[str, list[str]] = {}
    for f in facts:
        by_topic.setdefault(f.topic, []).append(f"{f.partition}: {f.log_start:,} to {f.log_end:,}")
    return "; ".join(f"{topic} {', '.join(parts)}" for topic, parts in by_topic.items())


def _first(fact: LogFacts, start: Moment | None, by_time: int | None) -> int:
    if start is None:
        return fact.log_start
    if start.offset is None:
        return fact.log_end if by_time is None else max(by_time, fact.log_start)
    if start.offset < fact.log_start:
        message = (
            f"Offset {start.offset:,} of {fact.topic}:{fact.partition} is no longer in the log, which begins at "
            f"{fact.log_start:,} and ends at {fact.log_end:,}: ask for --from {fact.log_start} or later."
        )
        raise ReplayError(message)
    return min(start.offset, fact.log_end)


def _last(fact: LogFacts, end: Moment | None, by_time: int | None) -> int:
    if end is None:
        return fact.log_end
    if end.offset is not None:
        return min(end.offset, fact.log_end)
    return fact.log_end if by_time is None else by_time


def _between(start: Moment | None, end: Moment | None) -> str:
    words = [f"{word} {_said(at)}" for word, at in (("from", start), ("to", end)) if at is not None]
    return " ".join(words)


def _said(at: Moment) -> str:
    return f"offset {at.offset:,}" if at.offset is not None else iso(at.ts_ms or 0)
