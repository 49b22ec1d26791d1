"""Lengths of time and sizes in words."""

import pytest

from streams.service.spans import size, span


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (-3, "0 ms"),
        (999, "999 ms"),
        (61_500, "1 min 1 s"),
        (3_600_000, "1 h"),
        (90_061_000, "1 d 1 h"),
        (7 * 86_400_000, "7 d"),
    ],
)
def test_a_length_of_time_has_its_two_largest_units(ms: int, words: str) -> None:
    assert span(ms) == words


@pytest.mark.parametrize(
    ("n", "words"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1536, "1.5 KiB"), (3 << 20, "3.0 MiB"), (5 << 40, "5,120.0 GiB")],
)
def test_a_size_has_the_unit_that_suits(n: int, words: str) -> None:
    assert size(n) == words
