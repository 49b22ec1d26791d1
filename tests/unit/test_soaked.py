"""The figures of a soak are judged after its warm-up, where enough is left, and not for what grows by design."""

from __future__ import annotations

from pathlib import Path

from tests.faults.soaked import Held, Sampler, figures
from tests.faults.verdict import Verdict


def soaked(minutes: float, mib_a_minute: float) -> Sampler:
    sampler = Sampler()
    for number in range(100):
        at_s = 0.6 * minutes * number
        for name in ("memory_worker0", "memory_valkey"):
            sampler.samples[name, "MiB"].append((1_000 + at_s, 80 + mib_a_minute * at_s / 60 + number % 2 * 0.1))
    return sampler


def test_growth_is_found_and_valkey_left_to_the_bytes_of_a_user() -> None:
    for mib_a_minute, holds in ((0.01, True), (1.0, False)):
        found = {f.name: f for f in figures(soaked(30, mib_a_minute), Verdict(), 1_800)}
        assert found["memory_worker0_growth"].holds is holds
        assert found["memory_valkey_growth"].holds is None
        assert "bytes" in found["redis_bytes_per_active_user"].unit


def test_bytes_are_judged_of_users_who_did_an_ordinary_number_of_things() -> None:
    sampler = soaked(30, 0.0)
    sampler.full = Held(users=5_000, events=199.0, row_bytes=2_232.0, push_bytes=7_041.0, allocator="libc")
    found = {f.name: f for f in figures(sampler, Verdict(), 1_800)}
    assert found["redis_bytes_per_active_user"].holds is False
    sampler.active = Held(users=5_000, events=32.0, row_bytes=980.0, push_bytes=7_041.0, allocator="libc")
    found = {f.name: f for f in figures(sampler, Verdict(), 1_800)}
    assert found["redis_bytes_per_active_user"].holds is True
    assert "after 32 events each" in found["redis_bytes_per_active_user"].how
    assert (found["redis_bytes_per_full_user"].value, found["redis_bytes_per_full_user"].holds) == (2_232.0, None)


def test_a_short_soak_is_shown_and_not_judged() -> None:
    found = {f.name: f for f in figures(soaked(1, 5.0), Verdict(), 60)}
    assert found["memory_worker0_growth"].holds is None
    assert "judged from 10 min on" in found["memory_worker0_growth"].how
    assert {f.name for f in figures(Sampler(), Verdict(), 60)} >= {"lost", "doubled", "wrong_rows"}


def test_samples_are_written_down(tmp_path: Path) -> None:
    soaked(1, 1.0).written(tmp_path / "soak.csv")
    first, *rest = (tmp_path / "soak.csv").read_text().splitlines()
    assert first == "memory_worker0,MiB,0.0,80.000"
    assert len(rest) == 199
