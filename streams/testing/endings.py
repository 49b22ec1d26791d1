"""One scenario under every fault, every delivery and every order: its endings must not differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from random import Random
from typing import NamedTuple, Protocol, TypeVar

from streams.testing.harness import Harness
from streams.testing.log import Delivery
from streams.testing.steps import COMMIT, Fault

T = TypeVar("T")

Scenario = Callable[[Harness], None]
"""Publishes and runs; it must do the same each time."""

MOST_CUT = 6
"""Records of one partition up to which all ways to cut them are tried."""


class Ending(NamedTuple):
    """A harness after its scenario, and what befell it."""

    name: str
    harness: Harness


class Make(Protocol):
    """Makes a harness: `Harness` itself, or `functools.partial` of it."""

    def __call__(self, *, delivery: Delivery | None = None, faults: dict[int, Fault] | None = None) -> Harness: ...


def every_fault(scenario: Scenario, make: Make = Harness) -> Iterator[Ending]:
    """The scenario without a fault, then with each fault at each of its steps."""
    calm = _ended("no fault", make(), scenario)
    yield calm
    for number, step in enumerate(calm.harness.steps.taken):
        for fault in Fault:
            if step == COMMIT or not fault.of_commits:
                yield _ended(f"{fault.value} step {number}, {step}", make(faults={number: fault}), scenario)


def every_delivery(scenario: Scenario, make: Make = Harness) -> Iterator[Ending]:
    """The scenario as usual, then with chunks cut in every way (long logs in some), re-read, doubled and early."""
    usual = _ended("as usual", make(), scenario)
    yield usual
    log, topics = usual.harness.log, usual.harness.topics
    longest = max(len(log.records(t, p)) for t in (*topics.user_inputs, topics.items) for p in range(log.partitions[t]))
    for delivery in deliveries(longest):
        yield _ended(str(delivery), make(delivery=delivery), scenario)


def deliveries(records: int) -> Iterator[Delivery]:
    """Ways to hand over a partition of so many records."""
    cuts = list(every_cut(records)) if records <= MOST_CUT else [(1,), (2,), (1, 3), (7, 1, 2), (records - 1, 1)]
    for sizes in cuts:
        yield Delivery(sizes)
    for sizes in cuts[:: max(1, len(cuts) // 4)]:
        yield Delivery(sizes, times=2)
        yield Delivery(sizes, again=3)
        yield Delivery(sizes, early=True)
        yield Delivery(sizes, together=False, times=2, again=1)


def every_cut(n: int) -> Iterator[tuple[int, ...]]:
    """All 2**(n - 1) ways to cut `n` records into chunks, as sizes."""
    for count in range(max(n, 1)):
        for places in combinations(range(1, n), count):
            yield tuple(b - a for a, b in pairwise((0, *places, max(n, 1))))


def shuffled(messages: Sequence[T], random: Random) -> list[T]:
    """The same in another order; rows are a function of the set of events."""
    return random.sample(list(messages), len(messages))


def late(messages: Sequence[T], random: Random, share: float = 0.3) -> list[T]:
    """The same with some held back: a `share` of them, by chance, comes after all others."""
    held = [random.random() < share for _ in messages]
    first = [message for message, back in zip(messages, held, strict=True) if not back]
    return first + [message for message, back in zip(messages, held, strict=True) if back]


def differences(endings: Iterable[Ending]) -> dict[str, list[str]]:
    """What differs from the first ending, by the name of the ending; empty when nothing does."""
    first, *others = endings
    found = {other.name: _differs(first.harness, other.harness) for other in others}
    return {name: what for name, what in found.items() if what}


def _ended(name: str, harness: Harness, scenario: Scenario) -> Ending:
    scenario(harness)
    return Ending(name, harness)


def _differs(one: Harness, other: Harness) -> list[str]:
    mine, theirs = one.state, other.state
    names = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
    return [f"{name}: {_told(one, name, mine.get(name), theirs.get(name))}" for name in names]


def _told(harness: Harness, name: str, mine: object, theirs: object) -> str:
    """How two values of a state differ; of rows, in which fields."""
    if mine is None or theirs is None:
        return "missing" if theirs is None else "one too many"
    if isinstance(mine, bytes) and isinstance(theirs, bytes):
        layout = harness.tables.layout if name.startswith("user ") else harness.tables.item_layout
        a, b = layout.unpack([mine, theirs])
        fields = [field for field in layout.dtype.names or () if a[field].tobytes() != b[field].tobytes()]
        return f"differs in {', '.join(fields)}"
    return f"{theirs!r} instead of {mine!r}"
