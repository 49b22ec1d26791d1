"""Counting in bounded memory: what is frequent is found whatever the order, and estimates keep their promises."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streams.operations.log_times import DAY_MS, HOUR_MS, LogTimes
from streams.operations.tally import Heavy, Hitter, Sampled

NOW_MS = 1_800_000_000_000


@given(batches=st.lists(st.lists(st.sampled_from("abcdefghijklmnopqrst"), max_size=60), max_size=12))
def test_counts_are_right_to_the_error_and_nothing_frequent_is_lost(batches: list[list[str]]) -> None:
    heavy, truth = Heavy(kept=6), Counter[str]()
    for batch in batches:
        heavy.add([*batch, None])
        truth.update(batch)
    found = {hitter.value: hitter for hitter in heavy.top(100)}
    assert heavy.total == truth.total()
    assert heavy.error <= 2 * truth.total() / heavy.kept
    for value, count in truth.items():
        kept = found.get(value, Hitter(value, 0, heavy.error))
        assert kept.n <= count <= kept.n + heavy.error


def test_few_values_are_counted_exactly() -> None:
    heavy = Heavy()
    heavy.add(["b", "a", "b", None])
    assert heavy.top(5) == [Hitter("b", 2, 0), Hitter("a", 1, 0)]


def hashes(values: NDArray[np.int64]) -> NDArray[np.uint64]:
    """An even spread over 64 bits."""
    spread: NDArray[np.uint64] = np.random.default_rng(7).permutation(2**20).astype(np.uint64)[values]
    return spread << np.uint64(44)


@given(st.lists(st.integers(0, 40), max_size=200))
def test_distinct_and_repeated_are_exact_while_they_fit(values: list[int]) -> None:
    sampled = Sampled()
    for at in range(0, len(values), 17):
        sampled.add(np.array(values[at : at + 17], np.uint64) * np.uint64(2**58))
    assert sampled.exact
    assert sampled.distinct == len(set(values))
    assert sampled.repeated == len(values) - len(set(values))


def test_more_values_than_fit_are_estimated_from_a_sample_of_values() -> None:
    rng = np.random.default_rng(3)
    sampled = Sampled(most=4_096)
    values = np.concatenate((np.arange(200_000), rng.integers(0, 200_000, 50_000)))
    rng.shuffle(values)
    spread = hashes(values)
    for part in np.array_split(spread, 20):
        sampled.add(part)
    assert not sampled.exact
    assert sampled.distinct == pytest.approx(200_000, rel=0.1)
    assert sampled.repeated == pytest.approx(50_000, rel=0.15)


def times(*batches: list[int]) -> LogTimes:
    found = LogTimes(NOW_MS, 300_000, 400 * DAY_MS)
    for batch in batches:
        found.add(np.array(batch, np.int64))
    return found


@given(st.lists(st.lists(st.integers(NOW_MS - 3 * DAY_MS, NOW_MS), max_size=20), max_size=5))
def test_steps_back_are_the_same_however_the_log_is_cut(batches: list[list[int]]) -> None:
    whole, cut = times([ms for batch in batches for ms in batch]), times(*batches)
    assert whole.facts() == cut.facts()
    flat = [ms for batch in batches for ms in batch]
    assert whole.backwards == sum(ms < max(flat[: i + 1]) for i, ms in enumerate(flat))


def test_times_that_cannot_be_are_counted() -> None:
    found = times([0, NOW_MS + 300_001, NOW_MS, NOW_MS - 401 * DAY_MS]).facts()
    assert (found["without"], found["future"], found["expired"]) == (1, 1, 1)
    assert found["worst_step_back_ms"] == 401 * DAY_MS + 300_001


def test_days_without_a_line_are_a_gap() -> None:
    start = NOW_MS // HOUR_MS * HOUR_MS
    found = times([start - 100 * HOUR_MS, start - 99 * HOUR_MS, start - 10 * HOUR_MS, start])
    assert found.gaps() == [(start - 98 * HOUR_MS, 88 * HOUR_MS)]
    assert times([]).gaps() == []
