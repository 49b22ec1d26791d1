"""The figures over all runs, and one line for each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.figures import AT_LEAST, AT_MOST, Figure, figure
from tests.faults.fault import EXIT_STUCK
from tests.faults.plan import Plan
from tests.faults.verdict import Verdict

LONGEST_RECOVERY_S, LONGEST_STANDSTILL_S = 15, 60


@dataclass(frozen=True)
class Result:
    """One run: its verdict, or why it was skipped."""

    plan: Plan
    verdict: Verdict | None
    seconds: float
    skipped: str = ""

    @property
    def right(self) -> bool:
        return self.verdict is not None and not self.verdict.complaints

    def line(self) -> str:
        """Seed, stage, faults, verdict, seconds."""
        plan = self.plan
        what = " + ".join(f"{p.name}@{p.start_s:.0f}s" for p in plan.faults)
        load = f"{plan.load.events_per_s}/s{' in transactions' if plan.load.transactional else ''}"
        stage = plan.layout.name.lower() + (" + doors" if plan.doors else "")
        head = f"seed {plan.seed:4}  {stage:14}  {plan.workers}+{plan.models}  {load:26}  {what}"
        if self.verdict is None:
            return f"[yellow]–[/] {head}: skipped, {self.skipped}"
        v = self.verdict
        slowest = f"{max(v.recoveries_s):.1f} s" if v.recoveries_s else "–"
        ends = "".join(f", {process} ended with {code}" for process, code in v.exits)
        ends += f", {v.taken_back} taken back by Kafka" if v.taken_back else ""
        tail = f"{v.events} events, {v.candidates} candidates, recovered in {slowest}, {self.seconds:.0f} s{ends}"
        return f"{'[green]✓[/]' if self.right else '[red]✗[/]'} {head}: {tail}"


def figures(results: Sequence[Result], skipped: Mapping[str, str]) -> list[Figure]:
    """What was measured over all runs; `skipped` are the faults that this machine cannot have, and why."""
    verdicts = [result.verdict for result in results if result.verdict is not None]
    recoveries_s = sorted(s for verdict in verdicts for s in verdict.recoveries_s)
    p95_s = recoveries_s[math.ceil(0.95 * len(recoveries_s)) - 1] if recoveries_s else None
    seeds = [result.plan.seed for result in results]
    kinds = Counter(planned.name for result in results if result.verdict for planned in result.plan.faults)
    events = sum(verdict.events for verdict in verdicts)
    how = f"seeds {min(seeds)} to {max(seeds)}, {events:,} events, {len(kinds)} kinds of faults, {kinds.total()} faults"

    def total(name: str, about: str) -> Figure:
        value = sum(getattr(verdict, name) for verdict in verdicts)
        return figure(name, value, "", (AT_MOST, 0), about)

    return [
        figure("runs", len(verdicts), "", (AT_LEAST, 100), how),
        figure("failed_runs", sum(not r.right for r in results if r.verdict), "", (AT_MOST, 0), "with any complaint"),
        total("lost", "events missing in the totals of users and kinds"),
        total("doubled", "events counted more than once"),
        total("wrong_rows", "rows of users, items and catalogue that differ in any field"),
        total("unburied", "poison without a dead letter"),
        total("twins", "items sent twice to a user under different dedup keys"),
        total("orphans", "candidates without their decision"),
        total("unanswered", "affected users without a decision"),
        figure(
            "recovery_p95_s", p95_s, "s", (AT_MOST, LONGEST_RECOVERY_S),
            "from the end of a fault until no partition was 1 s behind",
        ),
        figure(
            "stuck_s_max", max((v.stuck_s for v in verdicts), default=None), "s", (AT_MOST, LONGEST_STANDSTILL_S),
            "longest standstill of a partition with work waiting and no fault",
        ),
        figure(
            "idle_s_max", max((v.idle_s for v in verdicts), default=None), "s", (AT_MOST, LONGEST_STANDSTILL_S),
            "longest time without a decision while users were due and no fault",
        ),
        *_told_beside(verdicts, skipped),
    ]  # fmt: skip


def _told_beside(verdicts: Sequence[Verdict], skipped: Mapping[str, str]) -> list[Figure]:
    """What has no budget."""
    ended = [code for verdict in verdicts for _, code in verdict.exits]
    back = "records of transactions that Kafka acknowledged and aborted: a lone broker that shuts down"
    return [
        figure("exits_stuck", ended.count(EXIT_STUCK), "", None, f"by the liveness rule; {len(ended)} exits in all"),
        figure("taken_back", sum(verdict.taken_back for verdict in verdicts), "", None, back),
        figure("skipped", len(skipped), "", None, "; ".join(f"{k}: {v}" for k, v in skipped.items()) or "no fault"),
    ]
