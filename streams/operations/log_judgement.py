"""What of a log is fit to be imported, and what somebody should look at first; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from streams.service.findings import Finding, State
from streams.service.spans import span

MOST_LEFT_OUT, FEW_LEFT_OUT = 0.5, 0.05
MOST_REJECTS = 0.05
MOST_FUTURE = 0.01
HOT_USER, HOT_TIMES = 0.01, 10
SKEWED = 1.5
ENOUGH = 10_000
"""Fewer records than this are spread unevenly by chance."""
NOTED_DOUBLES = 0.001
NOTED_MISSING = 0.2


def judge(facts: Mapping[str, Any], *, topic: bool) -> list[Finding]:
    """Findings about a surveyed log; `topic`: its records lie in Kafka already, in the order in which they are read."""
    return [
        *_usable(facts),
        *_times(facts["time"] | _judged(facts, topic=topic), topic=topic),
        *_doubles(facts["duplicates"], facts["lines"]),
        *_heavy(facts),
        *_skew(facts["partitions"]),
        *_kinds(facts["kinds"]),
        *_missing(facts["missing"]),
    ]


def _judged(facts: Mapping[str, Any], *, topic: bool) -> dict[str, int]:
    """Of a topic the worker's own judgement of what is too old or too new, which knows when each record was heard."""
    return {name: facts["results"].get(name, 0) for name in ("expired", "future")} if topic else {}


def _usable(facts: Mapping[str, Any]) -> Iterator[Finding]:
    lines, events = facts["lines"], facts["events"]
    if not lines:
        yield Finding("red", "There is no line.", "See that it is the right file or topic.")
        return
    left = 1 - events / lines
    told = words({**facts["left_out"], **facts["rejects"], **facts["results"]})
    if not events:
        what = f"None of {lines:,} lines becomes an event" + (f": {told}." if told else ".")
        yield Finding("red", what, "See the mapping below: columns, the unit of time, the kinds.")
    elif left > FEW_LEFT_OUT:
        state: State = "red" if left > MOST_LEFT_OUT else "yellow"
        yield Finding(
            state, f"{left:.1%} of {lines:,} lines become no event: {told}.", "Mend the mapping, or accept it."
        )
    else:
        yield Finding("green", f"{events:,} of {lines:,} lines become events" + (f"; left out: {told}" if told else ""))
    if rejected := sum(facts["rejects"].values()):
        state = "red" if rejected > MOST_REJECTS * lines else "yellow"
        reasons = words(facts["rejects"])
        yield Finding(
            state,
            f"{rejected:,} would be dead letters: {reasons}.",
            "docs/events.md says what each reason means; mend the producer or the mapping.",
        )


def _times(times: Mapping[str, Any], *, topic: bool) -> Iterator[Finding]:
    known = times["lines"] - times["without"]
    if times["lines"] and times["without"] > 0.5 * times["lines"]:
        yield Finding(
            "red",
            f"{times['without']:,} of {times['lines']:,} lines have no time that is understood.",
            "Set time.column and time.unit (s, ms, us, or text in ISO 8601) in the mapping.",
        )
    if not known:
        return
    length = span(times["newest_ms"] - times["oldest_ms"])
    yield Finding("green", f"times from {date(times['oldest_ms'])} to {date(times['newest_ms'])}, {length}")
    if times["future"]:
        yield Finding(
            "red" if times["future"] > MOST_FUTURE * known else "yellow",
            f"{times['future']:,} lines are of the future: they would be left out.",
            "See time.unit and time.zone of the mapping, and the clock of who wrote it.",
        )
    yield from _expired(times["expired"], topic=topic)
    if times["backwards"]:
        share, step = times["backwards"] / known, span(times["worst_step_back_ms"])
        what = f"{times['backwards']:,} lines ({share:.1%}) are earlier than one before them, by up to {step}"
        if topic and share > MOST_FUTURE:
            yield Finding("yellow", f"{what}: some may be late for their windows.", "See who produces them so late.")
        else:
            yield Finding("green", f"{what}; rows do not depend on the order")
    if times["gaps"]:
        told = ", ".join(f"{span(gap['length_ms'])} from {date(gap['from_ms'])} on" for gap in times["gaps"])
        yield Finding("yellow", f"No line for {told}.", "See whether a part of the log is missing.")


def _expired(expired: int, *, topic: bool) -> Iterator[Finding]:
    if expired and topic:
        yield Finding(
            "yellow",
            f"{expired:,} records are older than KAIROS_HORIZON_DAYS: a worker leaves them out.",
            "Set KAIROS_HORIZON_DAYS to cover them.",
        )
    elif expired:
        what = f"{expired:,} lines are older than KAIROS_HORIZON_DAYS"
        yield Finding(
            "green", f"{what}: `kairos backfill` takes them as of their time, in a topic they would be left out"
        )


def _doubles(doubles: Mapping[str, Any], lines: int) -> Iterator[Finding]:
    if not doubles["n"]:
        yield Finding("green", f"no line comes twice, by {doubles['by']}")
        return
    about = "" if doubles["exact"] else "about "
    what = f"{about}{doubles['n']:,} lines ({doubles['n'] / max(lines, 1):.2%}) come twice, by {doubles['by']}"
    if doubles["n"] > NOTED_DOUBLES * lines:
        yield Finding(
            "yellow", f"{what[:1].upper()}{what[1:]}.", "Equal lines are read once from a file; see who doubles them."
        )
    else:
        yield Finding("green", what)


def _heavy(facts: Mapping[str, Any]) -> Iterator[Finding]:
    users, events = facts["users"], facts["events"]
    yield Finding("green", f"{users['distinct']:,} users and {facts['items']['distinct']:,} items")
    if events < ENOUGH:
        return
    hot = [top for top in users["top"] if top["share"] > HOT_USER and top["share"] * users["distinct"] > HOT_TIMES]
    if hot:
        first = f"{hot[0]['id']} has {hot[0]['n']:,} events, {hot[0]['share']:.1%} of all"
        others = f", {len(hot) - 1} more have over {HOT_USER:.0%} each" if len(hot) > 1 else ""
        yield Finding(
            "yellow",
            f"User {first}{others}: robots, or many people under one id.",
            "Leave out who is nobody with a [[drop]] rule on the user's column.",
        )


def _skew(partitions: Mapping[str, Any]) -> Iterator[Finding]:
    times = partitions["share"] * partitions["count"]
    where = f"the largest of {partitions['count']} partitions ({partitions['largest']}) gets {partitions['share']:.1%}"
    if times > SKEWED and partitions["records"] * partitions["count"] > ENOUGH:
        yield Finding(
            "yellow",
            f"{where[:1].upper()}{where[1:]}, {times:.1f} times its share: one worker has that much more to do.",
            "See the users with most events; more partitions do not help a single one.",
        )
    elif partitions["records"]:
        yield Finding("green", f"{where} of the records by murmur2")


def _kinds(kinds: Mapping[str, Any]) -> Iterator[Finding]:
    if kinds["known"]:
        yield Finding("green", f"kinds: {words(kinds['known'])}")
    if kinds["unknown"]:
        yield Finding(
            "yellow",
            f"Kinds that nothing maps: {words(kinds['unknown'])}.",
            "Add a [[kind]] rule for what is behaviour, and a [[drop]] rule for what is not.",
        )


def _missing(missing: Mapping[str, float]) -> Iterator[Finding]:
    noted = {name: share for name, share in missing.items() if share > NOTED_MISSING}
    if noted:
        told = ", ".join(f"{name} {share:.0%}" for name, share in sorted(noted.items(), key=lambda pair: -pair[1]))
        yield Finding("green", f"often without a value: {told}")


def words(counts: Mapping[str, int]) -> str:
    """Counts by word, the largest first."""
    ranked = sorted(counts.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{word} {count:,}" for word, count in ranked if count)


def date(ms: int) -> str:
    """A moment in UTC to the minute."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
