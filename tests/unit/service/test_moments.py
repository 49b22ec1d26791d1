"""Times as people type them."""

import pytest

from streams.service.moments import ago, moment

NOW_MS = 1_760_000_000_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("90s", NOW_MS - 90_000),
        (" 2h ", NOW_MS - 7_200_000),
        ("1.5h", NOW_MS - 5_400_000),
        ("15 m", NOW_MS - 900_000),
        ("7d", NOW_MS - 7 * 86_400_000),
        ("9999w", 0),
        ("now", NOW_MS),
        ("2025-10-09T08:53:20", NOW_MS),
        ("2025-10-09 08:53:20.000", NOW_MS),
        ("2025-10-09T10:53:20+02:00", NOW_MS),
        ("2025-10-09T08:53:20Z", NOW_MS),
        ("2025-10-09", NOW_MS - (8 * 3600 + 53 * 60 + 20) * 1000),
    ],
)
def test_a_time_or_how_long_ago(text: str, ms: int) -> None:
    assert moment(text, NOW_MS) == ms


@pytest.mark.parametrize("text", ["", "yesterday", "5y", "-2h", "12:30", "2025-13-01", "1960-01-01"])
def test_what_is_no_time_is_told_both_ways(text: str) -> None:
    with pytest.raises(ValueError, match=r"give a time like 2026-03-01T08:30 .* or how long ago"):
        moment(text, NOW_MS)


@pytest.mark.parametrize(
    ("ms", "text"), [(-5, "0 s"), (900, "1 s"), (59_000, "59 s"), (60_000, "1 min"), (7_200_000, "2 h"), (9e9, "104 d")]
)
def test_a_length_is_told_in_its_largest_unit(ms: float, text: str) -> None:
    assert ago(ms) == text
