"""Recoveries and standstills, judged from samples."""

from __future__ import annotations

from tests.faults.watch import Sample, grouped, idle_s, recoveries_s, stuck_s, went_back

PLACE = ("clicks", 0)


def samples(lags_s: dict[float, float], fences: dict[float, int] | None = None) -> list[Sample]:
    return [
        Sample(at_s, {PLACE: lag_s}, {PLACE: (fences or {}).get(at_s, int(at_s))}) for at_s, lag_s in lags_s.items()
    ]


def steady(until_s: float, behind: dict[float, float]) -> list[Sample]:
    """A sample every half second, recovered but for those named."""
    return samples({at / 2: behind.get(at / 2, 0.1) for at in range(int(until_s * 2))})


def test_spans_that_overlap_are_one() -> None:
    assert grouped([(5, 6), (1, 3), (2, 4)]) == [(1, 4), (5, 6)]


def test_a_recovery_ends_with_the_last_look_that_was_behind() -> None:
    behind = {11.0: 1.5, 12.0: 2.0, 12.5: 1.2}
    assert recoveries_s(steady(30, behind), [(8.0, 10.0)]) == [2.5]


def test_lag_that_comes_long_after_is_another_matter() -> None:
    assert recoveries_s(steady(30, {20.0: 5.0}), [(8.0, 10.0)]) == [0.0]


def test_a_time_without_a_look_is_no_recovery() -> None:
    seen = [sample for sample in steady(30, {}) if not 9.0 < sample.at_s < 16.0]
    assert recoveries_s(seen, [(8.0, 10.0)]) == [6.0]


def test_a_recovery_that_the_next_fault_cut_off_has_no_figure_of_its_own() -> None:
    behind = {10.5: 1.5, 11.0: 2.0, 13.0: 3.0, 13.5: 2.0}
    assert recoveries_s(steady(30, behind), [(8.0, 10.0), (11.5, 12.0)]) == [1.5]


def test_standing_still_counts_only_with_work_and_without_a_fault() -> None:
    still = samples(
        {float(at): max(0.0, float(at) - 5) for at in range(20)}, {float(at): min(at, 5) for at in range(20)}
    )
    assert stuck_s(still, [], []) == 14.0
    assert stuck_s(still, [(6.0, 12.0)], []) == 7.0
    assert stuck_s(still, [], [15.0]) == 9.0
    assert stuck_s(samples({float(at): 0.0 for at in range(20)}, {}), [], []) == 0.0


def test_model_workers_are_idle_only_while_users_are_due_and_nothing_is_decided() -> None:
    def looks(due: int, decided: list[int]) -> list[Sample]:
        return [Sample(float(at_s), {}, {}, due, count) for at_s, count in enumerate(decided)]

    stopped = [*range(6), *[5] * 14]
    assert idle_s(looks(3, stopped), [], []) == 14.0
    assert idle_s(looks(3, stopped), [(6.0, 12.0)], []) == 7.0
    assert idle_s(looks(3, stopped), [], [15.0]) == 9.0
    assert idle_s(looks(0, stopped), [], []) == 0.0
    assert idle_s(looks(3, list(range(20))), [], []) == 0.0


def test_a_fence_that_goes_back_is_seen() -> None:
    assert not went_back(samples({1.0: 0, 2.0: 0, 3.0: 0}, {1.0: 4, 2.0: 4, 3.0: 9}))
    assert went_back(samples({1.0: 0, 2.0: 0, 3.0: 0}, {1.0: 4, 2.0: 3, 3.0: 9}))
