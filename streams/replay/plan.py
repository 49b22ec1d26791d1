"""The plan of a replay or back-fill: what would be read, how much, and how long that takes; for people and programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from streams.replay.job import FileJob, Mode
from streams.replay.moments import iso
from streams.replay.ranges import Range
from streams.replay.register import Run
from streams.service import spans

ASSUMED_PER_S = 60_000
"""Records a second and process, until a run of this installation has measured it."""
START_S = 3.0
"""What it takes to start processes, before anything is read."""
SHOWN = 40
WORDS = {"users": "lines", "items": "items for the catalogue"}


@dataclass(frozen=True)
class Plan:
    """`settled`: records that an earlier try has behind it. `notes`: what a person should know before saying yes."""

    mode: Mode
    run: str
    ranges: Sequence[Range]
    files: Sequence[FileJob] = ()
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    processes: int = 1
    rate: float = 0
    settled: int = 0
    measured_per_s: float = 0
    notes: Sequence[str] = ()

    @property
    def records(self) -> int:
        """All records of all ranges and files."""
        return sum(r.records for r in self.ranges) + sum(file.records for file in self.files)

    @property
    def per_s(self) -> float:
        """Records a second of all processes, as far as is known."""
        fast = (self.measured_per_s or ASSUMED_PER_S) * self.processes
        return min(fast, self.rate) if self.rate > 0 else fast

    @property
    def estimated_s(self) -> float:
        """Seconds that the rest takes."""
        return START_S + max(self.records - self.settled, 0) / self.per_s

    def plain(self) -> dict[str, Any]:
        """For programs."""
        return {
            "mode": self.mode,
            "run": self.run,
            "ranges": [
                {"topic": r.topic, "partition": r.partition, "first": r.first, "end": r.end, "records": r.records}
                for r in self.ranges
            ],
            "files": [{"topic": f.topic, "id": f.id, "lines": f.records, "side": f.side} for f in self.files],
            "event_times_ms": {topic: list(span) for topic, span in self.spans.items()},
            "records": self.records,
            "settled": self.settled,
            "processes": self.processes,
            "estimated_s": round(self.estimated_s, 1),
            "rate_is": "measured" if self.measured_per_s else "assumed",
            "notes": list(self.notes),
        }

    def shown(self) -> RenderableType:
        """For people."""
        into = f" into [bold]{escape(self.run)}[/]" if self.run else ""
        parts: list[RenderableType] = [f"[bold]{self.mode}[/]{into}: {self.records:,} records at most"]
        if self.ranges:
            parts.append(self._table())
        parts += [f"{escape(file.topic)}: {file.records:,} {WORDS[file.side]}" for file in self.files]
        for (first, last), topics in _by_span(self.spans).items():
            lower = f"from {iso(first)}" if first else ""
            upper = f"before {iso(last)}" if last < 1 << 62 else ""
            parts.append(f"of {', '.join(topics)} only events {lower} {upper}".rstrip())
        if self.settled:
            parts.append(f"{self.settled:,} are folded already; it goes on from there")
        basis = "as measured in an earlier run" if self.measured_per_s else "assumed, nothing was measured yet"
        speed = f"{self.per_s:,.0f} records/s in {self.processes} process{'es' * (self.processes > 1)}"
        parts.append(f"about {spans.span(self.estimated_s * 1000)} at {speed} ({basis})")
        return Group(*parts, *[f"[yellow]![/] {escape(note)}" for note in self.notes])

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for heading in ("topic", "partition", "first", "last", "records"):
            table.add_column(heading, justify="left" if heading == "topic" else "right")
        for r in self.ranges[:SHOWN]:
            last = f"{r.end - 1:,}" if r.records else "–"
            table.add_row(r.topic, str(r.partition), f"{r.first:,}", last, f"{r.records:,}")
        if len(self.ranges) > SHOWN:
            rest = self.ranges[SHOWN:]
            table.add_row(f"… {len(rest)} more", "", "", "", f"{sum(r.records for r in rest):,}")
        return table


def measured(runs: Mapping[str, Mapping[str, Any]]) -> float:
    """Records a second and process of the run that was measured last, 0 for none."""
    rates = [(about.get("finished_ms", 0), about["rate_per_s"]) for about in runs.values() if about.get("rate_per_s")]
    return float(max(rates, default=(0, 0.0))[1])


def whole_of(run: Run, users: Sequence[str], live_bases: Mapping[tuple[str, int], int]) -> bool:
    """Whether a run has all that the live rows were built from: every user topic from where these began, no file."""
    if run.files or run.spans or not set(users) <= run.ranges.keys():
        return False
    parts = [(topic, p, first) for topic in users for p, (first, _) in run.ranges[topic].items()]
    from_there = all(first <= live_bases.get((topic, p), -1) for topic, p, first in parts)
    return from_there and not any(run.asked[topic][1] for topic in users)


def _by_span(spans: Mapping[str, tuple[int, int]]) -> dict[tuple[int, int], list[str]]:
    by_span: dict[tuple[int, int], list[str]] = {}
    for topic, span in spans.items():
        by_span.setdefault(span, []).append(topic)
    return by_span
