"""Quiet hours in the user's own zone, over midnight and over the days on which clocks change."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.policy.quiet import is_quiet, night

BERLIN, NEW_YORK, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata")
NIGHT = (22 * 60, 8 * 60)


def ms(text: str, zone: ZoneInfo, fold: int = 0) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp() * 1000)


def test_the_same_instant_is_night_here_and_day_there() -> None:
    now_ms = ms("2026-06-01T23:30", BERLIN)
    tomorrow_ms = ms("2026-06-02T22:00", BERLIN)
    assert night(now_ms, BERLIN, *NIGHT) == (23 * 60 + 30, ms("2026-06-02T08:00", BERLIN), tomorrow_ms)
    assert night(now_ms, NEW_YORK, *NIGHT) == (17 * 60 + 30, 0, ms("2026-06-01T22:00", NEW_YORK))


@pytest.mark.parametrize(
    ("local", "minute", "until"),
    [
        ("2026-06-01T21:59:59.999", 1_319, None),
        ("2026-06-01T22:00", 1_320, "2026-06-02T08:00"),
        ("2026-06-02T00:00", 0, "2026-06-02T08:00"),
        ("2026-06-02T07:59:59.999", 479, "2026-06-02T08:00"),
        ("2026-06-02T08:00", 480, None),
    ],
)
def test_the_first_minute_is_quiet_and_the_last_is_not(local: str, minute: int, until: str | None) -> None:
    expected = (minute, ms(until, KOLKATA) if until else 0)
    assert night(ms(local, KOLKATA), KOLKATA, *NIGHT)[:2] == expected


def test_a_night_with_a_spring_change_is_an_hour_shorter() -> None:
    now_ms = ms("2026-03-28T22:00", BERLIN)
    assert night(now_ms, BERLIN, *NIGHT).until_ms - now_ms == 9 * 3_600_000


def test_a_night_with_an_autumn_change_is_an_hour_longer() -> None:
    now_ms = ms("2026-10-24T22:00", BERLIN)
    assert night(now_ms, BERLIN, *NIGHT).until_ms - now_ms == 11 * 3_600_000


def test_an_end_that_the_clock_jumps_over_still_comes() -> None:
    now_ms = ms("2026-03-29T01:59", BERLIN)
    assert night(now_ms, BERLIN, 22 * 60, 150).until_ms == ms("2026-03-29T03:30", BERLIN)


def test_an_end_shown_twice_ends_the_second_hour_too() -> None:
    first, second = ms("2026-10-25T02:10", BERLIN), ms("2026-10-25T02:10", BERLIN, fold=1)
    assert night(first, BERLIN, 22 * 60, 150).until_ms == ms("2026-10-25T02:30", BERLIN)
    assert night(second, BERLIN, 22 * 60, 150).until_ms == ms("2026-10-25T02:30", BERLIN, fold=1)


def test_no_quiet_hours_where_they_start_as_they_end() -> None:
    assert not any(is_quiet(minute, 480, 480) for minute in range(1_440))
    assert night(ms("2026-06-01T08:00", BERLIN), BERLIN, 480, 480) == (480, 0, 0)


zones = st.sampled_from(["Europe/London", "America/Sao_Paulo", "Asia/Tokyo", "Australia/Lord_Howe", "Asia/Kathmandu"])


@given(st.integers(946_684_800_000, 2_208_988_800_000), zones, st.integers(0, 1_439), st.integers(0, 1_439))
def test_a_night_ends_within_a_day_and_outside_the_quiet_hours(now_ms: int, name: str, start: int, end: int) -> None:
    zone = ZoneInfo(name)
    minute, until_ms, next_ms = night(now_ms, zone, start, end)
    local = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone)
    assert minute == local.hour * 60 + local.minute
    assert (until_ms > 0) == is_quiet(minute, start, end)
    assert next_ms == 0 if start == end else now_ms < next_ms <= now_ms + 49 * 3_600_000
    if until_ms:
        assert now_ms < until_ms <= now_ms + 25 * 3_600_000
        if start != (end - 1) % 1_440:
            after = datetime.fromtimestamp(until_ms / 1000, UTC).astimezone(zone)
            jump = (after.hour * 60 + after.minute - end) % 1_440
            assert jump in (0, 30, 60)
