"""Bytes a user, events a second and workers: what is measured says so, and so does what is assumed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.operations.aligned import aligned
from streams.operations.sizing import GIB, Figure, Moved, memory, memory_figures, redis_speed, speed, speed_figures
from streams.operations.worker_metrics import WorkerWork, parsed
from streams.tables.memory_use import MemoryUse, PartUse

QUIET = Moved(seconds=10.0, applied=0, arrived=0, behind=0, workers=1, partitions=8)


def use(users: int = 20_000, *, others: int = 0) -> MemoryUse:
    """20,000 rows of 250 + 50 bytes, half of them with a push log of 400, all queued at 70, and 1 MB of items."""
    parts = [
        PartUse("rows", users, users, 300 * users, 250 * users, 500, exact=True),
        PartUse("push logs", users // 2, users // 2, 200 * users, 150 * users, 500, exact=True),
        PartUse("queue", 8, users, 70 * users, 70 * users, 8, exact=True),
        PartUse("item rows", 4, 3_000, 1_000_000, 1_000_000, 4, exact=True),
    ]
    keys = sum(part.keys for part in parts)
    return MemoryUse(parts, keys + others, 1_000_000 + 570 * users + 1_000_000 + 20 * keys, 1_000_000)


def test_bytes_a_user_are_an_average_over_all_users() -> None:
    found = memory(use())
    assert {part.name: round(part.value) for part in found.parts} == {
        "row": 250,
        "key and overhead": 50,
        "push logs": 200,
        "queue": 70,
        "the server's own": 20,
    }
    assert found.measured
    assert found.fixed_bytes == 1_000_000
    assert round(found.fullest_bytes) == 250 + 50 + 400 + 70 + 20


def test_what_the_server_needs_beside_keys_is_not_told_where_others_share_it() -> None:
    assert "the server's own" not in {part.name for part in memory(use(others=20_000)).parts}
    assert "the server's own" not in {part.name for part in memory(use(users=400)).parts}


def test_without_users_the_budget_is_assumed_and_said_to_be() -> None:
    found = memory(MemoryUse([], 0, 0, 0))
    assert not found.measured
    assert found.bytes_a_user == 1_024
    assert not any(figure.measured for figure in memory_figures(found, 1_000_000))


@given(users=st.integers(1, 10**9))
def test_memory_grows_with_users_and_the_fullest_is_never_less(users: int) -> None:
    found = memory(use())
    least, most = [f.value for f in memory_figures(found, users) if f.name == f"{users:,} users"]
    assert found.fixed_bytes / GIB < least <= most
    assert math.isclose(least, (users * found.bytes_a_user + found.fixed_bytes) / GIB)


def test_users_a_gib_are_of_the_bytes_together() -> None:
    figures = {figure.name: figure.value for figure in memory_figures(memory(use()), None)}
    assert figures["users"] == pytest.approx(GIB / figures["together"])
    assert "20,000 users" in figures


def test_a_worker_asked_for_its_metrics_is_measured_by_its_cpu() -> None:
    found = speed(QUIET._replace(applied=50_000, cpu_s=1.0, cpu_events=50_000))
    assert (found.measured, round(found.value)) == (True, 50_000)


def test_workers_that_are_behind_all_the_while_are_measured_by_their_rate() -> None:
    found = speed(QUIET._replace(applied=600_000, behind=1_000_000, workers=2))
    assert (found.measured, found.value) == (True, 30_000)


@pytest.mark.parametrize(
    "moved",
    [
        QUIET,
        QUIET._replace(applied=600_000, behind=100),  # they keep up: that is the load, not what they can do
        QUIET._replace(applied=600_000, behind=1_000_000, workers=0),
        QUIET._replace(applied=500, behind=1_000_000),
        QUIET._replace(applied=500, cpu_s=1.0, cpu_events=500),
    ],
)
def test_a_rate_that_says_nothing_of_what_a_worker_can_do_is_not_taken(moved: Moved) -> None:
    found = speed(moved)
    assert not found.measured
    assert round(found.value) == 71_429
    assert "docs/benchmarks.md" in found.how


def test_redis_is_measured_by_its_cpu_where_enough_was_applied() -> None:
    assert redis_speed(QUIET._replace(applied=100_000, redis_cpu_s=0.5)).value == pytest.approx(200_000)
    assert not redis_speed(QUIET).measured


def named(figures: list[Figure], name: str) -> Figure:
    return next(figure for figure in figures if figure.name == name)


def test_a_lag_that_shrinks_is_cleared_at_the_rate_it_shrinks() -> None:
    found = named(
        speed_figures(QUIET._replace(applied=300_000, arrived=100_000, behind=60_000), None), "clearing the lag"
    )
    assert (found.measured, found.value) == (True, 3.0)


def test_a_lag_that_grows_faster_than_the_workers_is_never_cleared() -> None:
    moved = QUIET._replace(arrived=10_000_000, behind=50_000)
    assert named(speed_figures(moved, None), "clearing the lag").value == math.inf


def test_a_lag_without_a_worker_is_timed_for_one() -> None:
    found = named(speed_figures(QUIET._replace(workers=0, behind=142_858), None), "clearing the lag")
    assert found.value == pytest.approx(2.0, rel=1e-3)
    assert not found.measured
    assert "none runs now" in found.how


@given(load=st.floats(1, 1e7))
def test_the_workers_wanted_carry_the_load_with_headroom(load: float) -> None:
    figures = speed_figures(QUIET, load)
    workers, each = named(figures, "workers").value, named(figures, "a worker").value
    assert workers * each * 0.7 >= load * 0.999
    assert workers == 1 or (workers - 1) * each * 0.7 < load * 1.001
    assert ("no more than that can work" in named(figures, "workers").how) == (workers > QUIET.partitions)


def test_metrics_of_a_worker_are_read_and_others_are_refused() -> None:
    text = (
        "# TYPE kairos_applied_records_total counter\n"
        'kairos_applied_records_total{table="users"} 1500.0\nkairos_applied_records_total{table="items"} 9.0\n'
        "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 2.5\n"
    )
    assert parsed(text) == WorkerWork(1_500, 2.5)
    with pytest.raises(ValueError, match="process_cpu"):
        parsed(text.split("# TYPE process", maxsplit=1)[0])
    with pytest.raises(ValueError, match="kairos_applied"):
        parsed("")


def test_columns_are_as_wide_as_their_widest_cell_and_never_cut() -> None:
    assert aligned([("a", "1", "x" * 200), ("bbb", "22", "")], right={1}) == ["a     1  " + "x" * 200, "bbb  22"]


def test_what_arrives_within_a_second_is_no_lag() -> None:
    moved = QUIET._replace(applied=10_000, arrived=10_010, behind=900)
    found = named(speed_figures(moved, None), "clearing the lag")
    assert (found.value, found.how) == (0.0, "900 on their way, less than arrives in a second")
