"""Plans of faults: the same seed gives the same one, and none that cannot be judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.documents import PAGE, filled
from tests.faults.fault import Ending
from tests.faults.plan import LONGEST_S, PlanError, plan
from tests.faults.registry import FAULTS

seeds = st.integers(0, 2**32)


@given(seeds)
def test_a_seed_gives_one_plan(seed: int) -> None:
    assert plan(seed, FAULTS) == plan(seed, FAULTS)
    assert plan(seed, FAULTS) != plan(seed + 1, FAULTS)


@given(seeds)
def test_a_plan_can_be_staged_and_judged(seed: int) -> None:
    made = plan(seed, FAULTS)
    faults = [FAULTS[planned.name] for planned in made.faults]
    assert 2 <= len(faults) <= 4
    assert all(made.layout in fault.layouts for fault in faults)
    assert not (any(fault.forgets for fault in faults) and any(fault.cuts for fault in faults))
    assert sum(fault.ending in (Ending.STOPS, Ending.REFUSED) for fault in faults) <= 1
    assert made.length_s <= LONGEST_S * 3


@given(seeds)
def test_faults_of_one_target_never_overlap(seed: int) -> None:
    made = plan(seed, FAULTS)
    for i, first in enumerate(made.faults):
        for second in made.faults[i + 1 :]:
            if FAULTS[first.name].target == FAULTS[second.name].target:
                assert second.start_s >= first.end_s


def test_as_many_seeds_as_faults_see_every_one() -> None:
    seen = {planned.name for seed in range(len(FAULTS)) for planned in plan(seed, FAULTS).faults}
    assert seen == FAULTS.keys()


def test_faults_can_be_named_instead() -> None:
    made = plan(3, FAULTS, ["worker-killed", "redis-killed"])
    assert {planned.name for planned in made.faults} == {"worker-killed", "redis-killed"}


def test_what_does_not_exist_is_said() -> None:
    with pytest.raises(PlanError, match="No fault is called earthquake"):
        plan(0, FAULTS, ["earthquake"])
    with pytest.raises(PlanError, match="Seed -1 is no seed"):
        plan(-1, FAULTS)
    with pytest.raises(PlanError, match="No stage has what all of"):
        plan(0, FAULTS, ["leader-killed", "redis-slots-move"])


def test_every_fault_says_what_happens_and_the_page_is_current() -> None:
    assert all(fault.about.endswith(".") for fault in FAULTS.values())
    assert filled(PAGE.read_text("utf-8")) == PAGE.read_text("utf-8")
