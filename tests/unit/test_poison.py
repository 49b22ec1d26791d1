"""Halving finds exactly the events that fail alone, and blames none when everything fails."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.poison import MOST, Positions, culprits


class Step:
    """A step that fails when one of the `bad` events takes part in it."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.tries = 0

    async def works(self, group: Positions) -> bool:
        self.tries += 1
        return not self.bad & set(group.tolist())


@given(st.integers(1, 600).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), max_size=4))))
async def test_exactly_the_events_that_fail_alone_are_found(case: tuple[int, set[int]]) -> None:
    n, bad = case
    step = Step(bad)
    assert await culprits(n, step.works) == sorted(bad)
    assert step.tries <= 1 + 2 * 11 * len(bad)


async def test_when_all_of_many_fail_none_is_to_blame() -> None:
    assert await culprits(MOST + 1, Step(set(range(MOST + 1))).works) == []
    assert await culprits(1, Step({0}).works) == [0]


async def test_events_that_fail_only_together_are_not_to_blame() -> None:
    async def works(group: Positions) -> bool:
        return len(group) < 5

    assert await culprits(20, works) == []


async def test_a_step_that_fails_without_any_event_is_not_searched_for_ever() -> None:
    async def never(_group: Positions) -> bool:
        return False

    assert await culprits(0, never) == []
