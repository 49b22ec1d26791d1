"""Group commit: who waits goes together, and nobody is lost when one of them leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import grouping
from streams.grouping import Group
from streams.tables.attempt import Verdict
from streams.tables.part import Outcome


class Commits:
    """Applies groups of numbers, one turn of the loop after the other; `groups` are those that were applied."""

    def __init__(self, turns: int = 3) -> None:
        self.turns = turns
        self.begun: list[list[int]] = []
        self.began = asyncio.Event()
        self.groups: list[list[int]] = []
        self.fails: Callable[[list[int]], bool] = lambda _group: False

    async def __call__(self, group: list[int]) -> list[Verdict]:
        self.begun.append(group)
        self.began.set()
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if self.fails(group):
            raise ZeroDivisionError
        self.groups.append(group)
        return [Outcome.SKIPPED if number < 0 else Outcome.APPLIED for number in group]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "GATHER_S", 0)


async def test_those_who_come_together_go_together_and_each_learns_its_own_fate() -> None:
    commits = Commits()
    group = Group(commits)
    assert await asyncio.gather(*map(group.join, (1, -2, 3))) == [Outcome.APPLIED, Outcome.SKIPPED, Outcome.APPLIED]
    assert commits.groups == [[1, -2, 3]]


async def test_those_who_come_during_a_commit_are_the_next_group() -> None:
    commits = Commits(turns=20)
    group = Group(commits)
    first = asyncio.create_task(group.join(1))
    await commits.began.wait()
    await asyncio.gather(first, group.join(2), group.join(3))
    assert commits.groups == [[1], [2, 3]]


async def test_when_the_one_who_commits_is_cancelled_the_others_are_committed_without_it() -> None:
    commits = Commits(turns=20)
    group = Group(commits)
    leader, *others = [asyncio.create_task(group.join(number)) for number in (1, 2, 3)]
    await commits.began.wait()
    leader.cancel()
    assert await asyncio.gather(*others) == [Outcome.APPLIED] * 2
    assert commits.begun == [[1, 2, 3], [2, 3]]
    assert leader.cancelled()


async def test_a_failure_is_raised_to_the_one_who_commits_and_the_others_try_for_themselves() -> None:
    commits = Commits()
    commits.fails = lambda group: 1 in group
    group = Group(commits)
    outcomes = await asyncio.gather(*map(group.join, (1, 2, 3)), return_exceptions=True)
    assert isinstance(outcomes[0], ZeroDivisionError)
    assert outcomes[1:] == [Outcome.APPLIED] * 2


@given(st.lists(st.tuples(st.integers(0, 6), st.none() | st.integers(0, 30)), min_size=1, max_size=12))
def test_whoever_stays_is_committed_once_however_many_leave(comings: list[tuple[int, int | None]]) -> None:
    async def come(group: Group[int], number: int, after: int, leaves: int | None) -> Verdict:
        for _ in range(after):
            await asyncio.sleep(0)
        task = asyncio.create_task(group.join(number))
        if leaves is not None:
            for _ in range(leaves):
                await asyncio.sleep(0)
            task.cancel()
        return await task

    async def run() -> None:
        commits = Commits()
        group = Group(commits)
        fates = await asyncio.gather(
            *[come(group, i, after, leaves) for i, (after, leaves) in enumerate(comings)], return_exceptions=True
        )
        applied = [number for one in commits.groups for number in one]
        assert len(applied) == len(set(applied))
        for number, fate in enumerate(fates):
            assert isinstance(fate, asyncio.CancelledError) or (fate is Outcome.APPLIED and number in applied)

    asyncio.run(run())
