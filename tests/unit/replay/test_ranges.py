"""Which records a replay reads: moments as people write them, and offsets against what the log holds."""

from __future__ import annotations

import argparse
import time

import pytest

from schemas.topics import Topics
from streams.chunks.chunk import LogFacts
from streams.pipeline import Limits
from streams.replay.moments import Moment, iso, length, moment
from streams.replay.ranges import ReplayError, Times, chosen, looked_up, ranges, span_of

TOPICS = Topics("p.")
CLICKS, ITEMS = TOPICS.clicks, TOPICS.items
NOTHING = Times({}, {})
HOUR_MS = 3_600_000


def log(topic: str, partition: int, start: int, end: int) -> LogFacts:
    return LogFacts(topic, partition, start, end, "id", 2)


FACTS = [log(CLICKS, 0, 10, 100), log(CLICKS, 1, 0, 50), log(ITEMS, 0, 5, 25)]


def of(start: Moment | None = None, end: Moment | None = None, times: Times = NOTHING) -> list[tuple[int, int]]:
    return [(r.first, r.end) for r in ranges(FACTS, ITEMS, start, end, times)]


def test_a_moment_is_an_offset_a_time_or_a_length_ago() -> None:
    assert moment("500") == Moment("500", offset=500)
    assert moment("2026-05-01T12:00:00+02:00").ts_ms == moment("2026-05-01T10:00:00").ts_ms == 1_777_629_600_000
    assert iso(1_777_629_600_000) == "2026-05-01T10:00:00Z"
    ago_ms = time.time_ns() // 1_000_000 - (moment("36h").ts_ms or 0)
    assert 36 * HOUR_MS <= ago_ms < 36 * HOUR_MS + 60_000


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("yesterday", "is no offset (5000), no time (2026-05-01T12:00+02:00) and no length of time (36h)"),
        ("1777629600000", "is too large for an offset; write a time as 2026-05-01T10:00:00Z"),
        ("-3", "is no offset"),
    ],
)
def test_what_is_no_moment_is_told_with_what_would_be(text: str, sentence: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as told:
        moment(text)
    assert sentence in str(told.value)


def test_a_lead_in_is_a_length_or_nothing() -> None:
    assert (length("0"), length("30d")) == (0, 30 * 24 * HOUR_MS)
    with pytest.raises(argparse.ArgumentTypeError):
        length("long")


def test_without_moments_the_whole_log_is_read_to_its_present_end() -> None:
    assert of() == [(10, 100), (0, 50), (5, 25)]


def test_offsets_hold_for_each_partition_as_far_as_it_goes_and_not_for_the_catalogue() -> None:
    assert of(Moment("20", offset=20), Moment("60", offset=60)) == [(20, 60), (20, 50), (5, 25)]
    assert of(Moment("70", offset=70)) == [(70, 100), (50, 50), (5, 25)]


def test_times_are_the_offsets_that_kafka_found_or_the_end() -> None:
    times = Times({(CLICKS, 0): 40}, {(CLICKS, 1): 30})
    at = Moment("t", ts_ms=1)
    assert of(at, None, times) == [(40, 100), (50, 50), (5, 25)]
    assert of(None, at, times) == [(10, 100), (0, 30), (5, 25)]


def test_an_offset_that_retention_took_is_refused_with_what_is_there() -> None:
    with pytest.raises(ReplayError) as told:
        of(Moment("3", offset=3))
    assert "begins at 10 and ends at 100" in str(told.value)


def test_a_range_outside_the_log_is_refused_with_what_is_there() -> None:
    with pytest.raises(ReplayError) as told:
        of(Moment("200", offset=200))
    text = str(told.value)
    assert text.startswith("Nothing lies from offset 200. The log holds p.events.clicks.v1 0: 10 to 100, 1: 0 to 50.")
    assert "items" not in text


def test_an_empty_log_is_joined_at_its_first_event() -> None:
    empty = LogFacts(CLICKS, 0, 0, 0, "id", 1)
    found = ranges([empty], ITEMS, Moment("0", offset=0), None, Times({}, {}))
    assert [(r.first, r.end, r.records) for r in found] == [(0, 0, 0)]


def test_topics_are_named_by_word_or_in_full_and_a_near_miss_is_suggested() -> None:
    assert chosen(TOPICS, ["orders", CLICKS, "orders"]) == (TOPICS.orders, CLICKS)
    assert chosen(TOPICS, []) == (*TOPICS.user_inputs, ITEMS)
    with pytest.raises(ReplayError) as told:
        chosen(TOPICS, ["click"])
    assert "Did you mean clicks?" in str(told.value)


def test_a_time_counts_events_from_its_lead_in_on_and_looks_earlier_by_a_clock_ahead() -> None:
    at, to = Moment("t", ts_ms=10 * HOUR_MS), Moment("u", ts_ms=20 * HOUR_MS)
    assert span_of(at, to, HOUR_MS) == (9 * HOUR_MS, 20 * HOUR_MS)
    assert span_of(at, None, 99 * HOUR_MS) == (0, 1 << 62)
    assert span_of(Moment("5", offset=5), None, HOUR_MS) is None
    assert looked_up(at, to, HOUR_MS, Limits(max_skew_ms=300_000)) == (9 * HOUR_MS - 300_000, 20 * HOUR_MS)
    assert looked_up(Moment("5", offset=5), None, HOUR_MS, Limits()) == (None, None)
