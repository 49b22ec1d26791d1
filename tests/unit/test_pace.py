"""When the queue is looked at next, and how far ahead of their deadlines users are taken."""

from hypothesis import given
from hypothesis import strategies as st

from model_server.pace import LONGEST_AHEAD_MS, Pace

T = 1_800_000_000_000


def test_a_user_is_taken_early_enough_for_the_next_look_for_company_and_for_the_work() -> None:
    pace = Pace(company_ms=16, longest_ms=40)
    assert pace.ahead_ms == 8 + 16
    for _ in range(200):
        pace.worked(10)
    assert pace.ahead_ms == 8 + 16 + 10


def test_a_slow_batch_moves_the_measured_time_by_a_part_and_never_beyond_its_bound() -> None:
    pace = Pace(company_ms=0, longest_ms=40)
    pace.worked(60_000)
    assert 0 < pace.work_ms < LONGEST_AHEAD_MS / 2
    for _ in range(500):
        pace.worked(60_000)
    assert pace.ahead_ms <= LONGEST_AHEAD_MS


def test_an_empty_queue_is_looked_at_after_the_longest_pause() -> None:
    assert Pace(16, 40).pause_ms(None, T) == 40


def test_the_next_look_is_when_the_next_user_may_be_taken() -> None:
    assert Pace(16, 40).pause_ms(T + 24 + 30, T) == 30


def test_those_due_one_after_the_other_share_a_look() -> None:
    assert Pace(16, 40).pause_ms(T + 25, T) == 8


def test_nothing_makes_it_spin() -> None:
    assert Pace(0, 1).pause_ms(T - 10, T) == 2


@given(st.integers(0, 200), st.integers(1, 1_000), st.integers(-500, 500), st.lists(st.floats(0, 1e6), max_size=20))
def test_whoever_is_due_after_a_look_is_taken_before_there_is_no_time_left(
    company_ms: int, longest_ms: int, due_in_ms: int, spent_ms: list[float]
) -> None:
    pace = Pace(company_ms, longest_ms)
    for each in spent_ms:
        pace.worked(each)
    pause_ms = pace.pause_ms(T + pace.ahead_ms + due_in_ms, T)
    assert pause_ms >= 2
    if due_in_ms > 0:  # The others were taken by this look.
        left_ms = pace.ahead_ms + due_in_ms - pause_ms
        assert left_ms >= company_ms + round(pace.work_ms) - 2
