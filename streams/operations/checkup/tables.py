"""Rows against logs, the namespaces in force, and the users who wait for an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from streams.operations.lag import queue_words
from streams.operations.standing import Seen
from streams.service.findings import Finding, Section
from streams.service.namespaces import InForce
from streams.service.spans import span

LATE_MS, TOO_LATE_MS = 60_000, 15 * 60_000
OLD_MS = 60_000


def look_at_rows(seen: Seen, most: int, now_ms: int) -> Section:
    """Fences against end offsets; ids, missing topics and lost ranges are said with the topics."""
    section = Section("rows")
    behind = sum(s.behind for s in seen.standings)
    oldest_ms = min((s.oldest_ms for s in seen.standings if s.oldest_ms is not None), default=None)
    age_ms = None if oldest_ms is None else max(0, now_ms - oldest_ms)
    section.facts = {"behind": behind, "oldest_age_ms": age_ms}
    if unknown := sum(s.fence is None for s in seen.standings):
        section.red(f"{unknown} partitions have no fence: nothing says what is applied.", "Run `kairos topics init`.")
    if not seen.standings:
        section.yellow("There is no topic to read.", "See `topics` above.")
    if unknown < len(seen.standings):
        section.findings += judge_rows(behind, max(s.behind for s in seen.standings), age_ms, most)
    return section


def judge_rows(behind: int, worst: int, age_ms: int | None, most: int) -> Iterator[Finding]:
    """Whether the workers keep up."""
    old = "" if age_ms is None else f", the oldest {span(age_ms)} old"
    if worst > most:
        yield Finding(
            "red",
            f"{behind:,} offsets are not applied{old}; the worst partition is {worst:,} behind.",
            "See `workers` below; `kairos capacity` says how many workers this load needs.",
        )
    elif age_ms is not None and age_ms > OLD_MS:
        yield Finding(
            "yellow", f"{behind:,} offsets are not applied{old}.", "See `workers` below, and `kairos lag --watch`."
        )
    else:
        yield Finding("green", f"{behind:,} offsets are not applied{old}" if behind else "every record is applied")


def look_at_users(queue: Mapping[str, Any]) -> Section:
    """The queue of affected users, as `waiting` of `kairos lag` gives it."""
    section = Section("affected users")
    section.facts = {"queue": queue}
    section.findings += judge_queue(queue)
    return section


def judge_queue(queue: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether the model workers keep up."""
    lines = queue_words(queue).split("\n")
    late_ms = queue["oldest"]["late_ms"] if queue["oldest"] else 0
    if late_ms > LATE_MS:
        yield Finding(
            "red" if late_ms > TOO_LATE_MS else "yellow",
            f"{'; '.join(lines)}.",
            "Start `kairos model`, or more of it; its /metrics say where the time goes.",
        )
    else:
        yield Finding("green", "; ".join(lines))
    if queue["expired"]:
        yield Finding(
            "yellow",
            f"{queue['expired']:,} users are held past their lease: a model worker has died or stands still.",
            "They go back by themselves when a model worker looks at the queue again; see the model workers' logs.",
        )


def look_at_namespaces(
    installation: str, force: InForce, runs: Mapping[str, Mapping[str, Any]], there: int | None, mine: int
) -> Section:
    """Which tables are in force, and which were built beside them; `there`, `mine`: schema of the rows, and of ours."""
    section = Section("namespaces")
    section.facts = {"installation": installation, **force._asdict(), "runs": dict(runs), "schema": there}
    section.findings += judge_namespaces(force, list(runs))
    section.findings += judge_schema(force.live, there, mine, runs)
    return section


def judge_schema(live: str, there: int | None, mine: int, runs: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Rows that nobody who starts with the settings of here can read; `there` is None where there are none yet."""
    if there in (None, mine):
        return
    told = f"Rows of {live} have schema {there}, the features of here {mine}: a worker that starts here"
    run = next((name for name, about in runs.items() if about.get("schema") == mine), "")
    if run:
        yield Finding(
            "yellow", f"{told} waits for run {run}.", f"Bring it into force: `kairos promote {run} --execute`."
        )
    else:
        yield Finding(
            "red",
            f"{told} is refused.",
            "Set KAIROS_FEATURES to the file that they were built with, or build a run with this one and promote it "
            "(docs/promote.md).",
        )


def judge_namespaces(force: InForce, runs: Sequence[str]) -> Iterator[Finding]:
    """A promotion that was left in the middle, and runs that keep memory."""
    told = f"rows are folded into {force.live} and served from {force.serving}"
    if force.live != force.serving:
        yield Finding(
            "yellow",
            f"A promotion is under way: {told}.",
            "Let it end, or go on with it (`kairos promote`), or back (`kairos promote --undo`).",
        )
    else:
        yield Finding("green", told)
    beside = [run for run in runs if run not in (force.live, force.serving)]
    if beside:
        yield Finding("green", f"built beside them, and kept in memory: {', '.join(beside)}")
