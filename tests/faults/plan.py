"""A seed becomes a plan: the servers, the load, the processes, and which faults when; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from tests.faults.fault import Ending, Fault, Layout

WARM_S, BETWEEN_S, AFTER_S, LONGEST_S = 3.0, (0.3, 4.0), 6.0, 45.0
WITH_DOORS = 0.4
"""Share of the plans with one broker and one Valkey where both ask who is there and say what he may do."""


class PlanError(ValueError):
    """A plan that cannot be made; the sentence says why and what can."""


@dataclass(frozen=True)
class Load:
    """What the producers send: events a second, users and items, the share that is poison, and how it is sent."""

    events_per_s: int
    users: int
    items: int
    poison: float
    transactional: bool


@dataclass(frozen=True)
class Planned:
    """One fault at its time, in seconds since the load began."""

    name: str
    start_s: float
    lasts_s: float

    @property
    def end_s(self) -> float:
        return self.start_s + self.lasts_s


@dataclass(frozen=True)
class Plan:
    """One run, whole; the same seed gives the same plan. doors: TLS, logins and least rights; see docs/security.md."""

    seed: int
    layout: Layout
    load: Load
    workers: int
    models: int
    faults: tuple[Planned, ...]
    doors: bool = False
    least_s: float = 12.0

    @property
    def length_s(self) -> float:
        """How long the load goes on: past the last fault."""
        return max([self.least_s, *(planned.end_s + AFTER_S for planned in self.faults)])


def plan(seed: int, known: Mapping[str, Fault], wanted: Sequence[str] = ()) -> Plan:
    """The plan of a seed over the faults known; `wanted` names its faults instead. Raises PlanError.

    Seeds that follow each other begin with different faults: as many runs as there are faults see every one.
    """
    if seed < 0:
        message = f"Seed {seed} is no seed: write a whole number from 0."
        raise PlanError(message)
    if unknown := sorted(set(wanted) - known.keys()):
        message = f"No fault is called {', '.join(unknown)}: there are {', '.join(known)}."
        raise PlanError(message)
    random = Random(seed)
    chosen = [known[name] for name in wanted] or _chosen(random, seed, list(known.values()))
    layouts = sorted(frozenset.intersection(*[fault.layouts for fault in chosen]), key=lambda layout: layout.name)
    if not layouts:
        message = f"No stage has what all of {', '.join(fault.name for fault in chosen)} act on: name fewer."
        raise PlanError(message)
    load = Load(
        events_per_s=random.choice([150, 250, 400]),
        users=random.choice([100, 400, 1_500]),
        items=random.choice([30, 200]),
        poison=random.choice([0.0, 0.02, 0.1]),
        transactional=random.random() < 0.3,
    )
    layout = random.choice([Layout.SINGLE] * 3 + layouts) if Layout.SINGLE in layouts else random.choice(layouts)
    workers, models, timed = random.choice([1, 2, 2, 3]), random.choice([1, 1, 2]), _timed(random, chosen)
    wished = any("doors" in fault.needs for fault in chosen) or random.random() < WITH_DOORS
    return Plan(seed, layout, load, workers, models, timed, doors=wished and layout is Layout.SINGLE)


def _chosen(random: Random, seed: int, known: list[Fault]) -> list[Fault]:
    """One fault by the seed's turn, and one to three that go with it."""
    chosen = [known[seed % len(known)]]
    for _ in range(random.choice([1, 1, 2, 3])):
        fitting = [fault for fault in known if _goes_with(fault, chosen)]
        chosen.append(random.choice(fitting))
    return chosen


def _goes_with(fault: Fault, chosen: Sequence[Fault]) -> bool:
    """Whether a run with all of them still has an ending that can be told, and a reasonable length."""
    together = [*chosen, fault]
    targets = [each.target for each in together]
    rebuilt = sum(_is_rebuilt(each) for each in together)
    long = sum(each.lasts_s[1] for each in together if targets.count(each.target) > 1)
    return (
        bool(frozenset.intersection(*[each.layouts for each in together]))
        and not (any(each.forgets for each in together) and any(each.cuts for each in together))
        and (
            rebuilt == 0 or (rebuilt == 1 and all(each.target != "kafka" for each in together if not _is_rebuilt(each)))
        )
        and long <= LONGEST_S
    )


def _is_rebuilt(fault: Fault) -> bool:
    """Whether an operator builds the tables anew at its end."""
    return fault.ending in (Ending.STOPS, Ending.REFUSED)


def _timed(random: Random, chosen: Sequence[Fault]) -> tuple[Planned, ...]:
    """Times for all: faults of one target follow each other, others overlap as it comes; a rebuild comes last."""
    free_s: dict[str, float] = {}
    timed = []
    for fault in sorted(random.sample(chosen, len(chosen)), key=_is_rebuilt):
        earliest_s = max(free_s.values(), default=WARM_S) if _is_rebuilt(fault) else free_s.get(fault.target, WARM_S)
        start_s = round(earliest_s + random.uniform(*BETWEEN_S), 2)
        planned = Planned(fault.name, start_s, round(random.uniform(*fault.lasts_s), 2))
        free_s[fault.target] = planned.end_s + 1.0
        timed.append(planned)
    return tuple(sorted(timed, key=lambda planned: planned.start_s))
