"""What may be done to a run again, and when it has all that the live rows were built from."""

from __future__ import annotations

import pytest

from streams.replay.addition import add_catalogue
from streams.replay.job import FileJob
from streams.replay.plan import ASSUMED_PER_S, START_S, Plan, measured, whole_of
from streams.replay.ranges import Range, ReplayError
from streams.replay.register import ALL, KeptFile, Run, Target, goes_on, known, of_ranges, refuse_target, stored
from streams.service.namespaces import InForce

FORCE = InForce("live", "served", "before")
RANGES = [Range("clicks", p, 10 * p, 100, 0, 200, "id", 2) for p in range(2)]
RUN = Run("rebuild", 1, 7, ranges=of_ranges(RANGES), asked={"clicks": ("2026-05-01", "", 0)})


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (Target("live", FORCE, None, True), "is the namespace in force"),
        (Target("served", FORCE, RUN, True), "is the namespace in force"),
        (Target("before", FORCE, RUN, True), "is the way back of the last promotion"),
        (Target("other", FORCE, None, True), "holds rows that no replay wrote"),
        (Target("run", FORCE, Run("shadow", 1, 7), True), "was begun in mode shadow"),
        (Target("run", FORCE, Run("rebuild", 1, 8), True), "was begun under declaration 8"),
    ],
)
def test_a_target_that_would_be_spoilt_is_refused(target: Target, sentence: str) -> None:
    with pytest.raises(ReplayError, match=sentence):
        refuse_target(target, "rebuild", 7)


def test_a_new_name_and_a_run_of_the_same_kind_are_taken() -> None:
    refuse_target(Target("new", FORCE, None, False), "rebuild", 7)
    refuse_target(Target("run", FORCE, RUN, True), "rebuild", 7)


def test_a_run_goes_on_with_the_range_it_has_and_takes_no_other() -> None:
    goes_on("run", RUN, ["clicks", "browses"], None)
    goes_on("run", RUN, ["clicks"], ("2026-05-01", "", 0))
    with pytest.raises(ReplayError) as told:
        goes_on("run", RUN, ["clicks"], ("2026-05-02", "", 0))
    assert "Run run has clicks 0: 0 to 100, 1: 10 to 100, asked for as --from 2026-05-01" in str(told.value)


def test_a_run_reads_to_where_it_was_to_end_though_the_log_has_grown() -> None:
    grown = [r._replace(end=500) for r in RANGES]
    assert stored(RUN, grown) == RANGES
    assert stored(Run("rebuild", 1, 7), grown) == grown


def test_a_run_survives_the_register() -> None:
    assert known({"run": RUN.plain()}, "run") == RUN
    assert known({}, "run") is None
    with pytest.raises(ReplayError, match="another version of Kairos"):
        known({"run": {"mode": "sideways"}}, "run")


def test_only_a_run_with_every_topic_from_the_live_beginning_is_whole() -> None:
    whole = Run("rebuild", 1, 7, ranges=of_ranges(RANGES), asked={"clicks": ALL})
    bases = {("clicks", 0): 0, ("clicks", 1): 10}
    assert whole_of(whole, ["clicks"], bases)
    assert not whole_of(whole, ["clicks"], bases | {("clicks", 1): 9})
    assert not whole_of(whole, ["clicks", "orders"], bases)
    whole.asked["clicks"] = ("", "50", 0)
    assert not whole_of(whole, ["clicks"], bases)


def test_the_time_is_estimated_by_what_was_measured_last() -> None:
    runs: dict[str, dict[str, float]] = {
        "slow": {"finished_ms": 1, "rate_per_s": 9.0},
        "fast": {"finished_ms": 2, "rate_per_s": 50.0},
        "small": {"finished_ms": 3},
    }
    assert measured(runs) == 50
    plan = Plan("rebuild", "run", RANGES, processes=2, settled=90, measured_per_s=50)
    assert (plan.records, plan.estimated_s) == (190, 1.0 + START_S)
    assert Plan("rebuild", "run", RANGES).per_s == ASSUMED_PER_S
    assert Plan("rebuild", "run", RANGES, rate=10, settled=90).estimated_s == 10 + START_S


def test_items_of_a_file_come_before_those_of_the_log_or_not_at_all() -> None:
    items, others = (FileJob("path", "file:items:a.csv", name, 9, 2, "items") for name in ("these", "those"))
    kept = KeptFile("a.csv", "id", 5)
    with pytest.raises(ReplayError, match=r"Run past has read items\.v1 already, .* on what a\.csv tells of items"):
        add_catalogue("past", kept, items, begun=1)
    add_catalogue("past", kept, None, begun=1)
    add_catalogue("past", kept, items, begun=0)
    assert (kept.catalogue, kept.listed) == ("these", False)
    for other in (None, others):
        with pytest.raises(ReplayError, match=r"Run past holds the catalogue of a\.csv: give --catalogue and the same"):
            add_catalogue("past", kept, other, begun=0)
    kept.listed = True
    add_catalogue("past", kept, items, begun=1)
