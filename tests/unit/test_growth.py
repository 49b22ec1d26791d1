"""A size that grows is told from one that only varies."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.faults.growth import trend

TIMES_S = [5.0 * number for number in range(200)]
MIB = 1 << 20


@given(st.integers(0, 2**32), st.integers(0, 500))
def test_what_varies_around_a_level_is_flat(seed: int, level: int) -> None:
    random = Random(seed)
    assert trend(TIMES_S, [level + random.uniform(-3, 3) for _ in TIMES_S]).flat(0)


@given(st.integers(0, 2**32))
def test_what_rises_by_more_than_it_varies_is_not(seed: int) -> None:
    random = Random(seed)
    found = trend(TIMES_S, [100 + 0.01 * at_s + random.uniform(-1, 1) for at_s in TIMES_S])
    assert 8 < found.growth < 12
    assert not found.flat(1)


def test_a_peak_is_no_growth_and_shrinking_is_none_either() -> None:
    assert trend(TIMES_S, [1.0] * 190 + [90.0] * 10).flat(0)
    assert trend(TIMES_S, [100 - 0.1 * at_s for at_s in TIMES_S]).flat(0)


def test_a_little_is_too_little_to_tell() -> None:
    found = trend(TIMES_S, [80 * MIB + 100 * at_s for at_s in TIMES_S])
    assert found.flat(MIB)
    assert not found.flat(0)
