"""What `kairos lag` makes of where every partition stands and of who waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from streams.features.declaration import DEFAULT
from streams.operations.lag import facts, page, totals, verdict, waiting
from streams.operations.standing import Seen, Standing, hole
from streams.service.topic_ids import TopicFacts
from streams.tables.survey import QueueLook, Waiting

NOW_MS = 1_800_000_000_000


def standing(partition: int = 0, *, end: int = 100, fence: int | None = 99, start: int = 0, **more: object) -> Standing:
    return Standing("events.clicks.v1", partition, start, end, fence, **more)  # type: ignore[arg-type]


@given(fence=st.integers(-1, 50), start=st.integers(0, 50), length=st.integers(0, 50))
def test_a_partition_is_behind_or_beyond_and_never_both(fence: int, start: int, length: int) -> None:
    found = standing(start=start, end=start + length, fence=fence)
    assert found.behind == 0 or found.beyond == 0
    assert found.end - 1 - fence == found.behind - found.beyond


def test_markers_of_transactions_are_not_behind() -> None:
    assert standing(fence=97).behind == 2
    assert standing(fence=97, empty=True).behind == 0


def test_a_fence_that_was_never_set_is_unknown_and_not_behind() -> None:
    found = standing(fence=None)
    assert (found.behind, found.lost, found.beyond) == (0, 0, 0)
    assert totals([found], NOW_MS)["events.clicks.v1"]["unknown"] == 1


def test_a_log_cut_above_the_fence_has_lost_offsets() -> None:
    assert standing(start=10, fence=4).lost == 5
    assert standing(start=5, fence=4).lost == 0


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (standing(start=10, fence=4), "needed from offset 5 but its log starts at 10"),
        (standing(end=90, fence=99), "ended at offset 90 when the table had applied everything below 100"),
        (standing(start=5, fence=4), None),
        (standing(fence=None, start=5), None),
    ],
)
def test_a_partition_whose_log_lost_records_stands_still(found: Standing, said: str | None) -> None:
    name, facts = found.topic, TopicFacts("id", 4)
    told = hole(found, {b"i:" + name.encode(): b"id"}, facts)
    assert (said in str(told)) if said else told is None
    assert hole(found, {b"i:" + name.encode(): b"before"}, facts) is None, "that one is another topic"
    if told:
        (sentence,) = verdict([found._replace(hole=told)], [], 10)
        assert sentence.startswith(f"{name}:0 stands still, alone: {name}:0")


def test_a_log_that_was_truncated_and_has_grown_since_stays_stopped() -> None:
    meta = {b"i:events.clicks.v1": b"id", b"t:events.clicks.v1": b"90"}
    assert "ended at offset 90" in str(hole(standing(end=500, fence=99), meta, TopicFacts("id", 4)))


def test_totals_are_by_topic_with_the_worst_partition_and_the_oldest_record() -> None:
    parts = [standing(0, fence=89, oldest_ms=NOW_MS - 5_000), standing(1, fence=59, oldest_ms=NOW_MS - 90_000)]
    assert totals(parts, NOW_MS)["events.clicks.v1"] == {
        "partitions": 2,
        "end": 200,
        "behind": 50,
        "worst": 40,
        "unknown": 0,
        "oldest_age_ms": 90_000,
    }


def test_the_verdict_names_each_partition_above_the_limit_the_worst_first() -> None:
    parts = [standing(0, fence=79), standing(1, fence=9), standing(2)]
    assert verdict(parts, [], 15) == [
        "events.clicks.v1:1 is 90 offsets behind, more than 15.",
        "events.clicks.v1:0 is 20 offsets behind, more than 15.",
    ]
    assert verdict(parts, [], 90) == []


def test_what_cannot_be_told_is_no_good_verdict() -> None:
    assert verdict([standing(fence=None)], ["items.v1"], 10_000) == [
        "items.v1 is not in Kafka: run `kairos topics create`.",
        "events.clicks.v1 has no base offset in Redis: run `kairos topics init`.",
    ]


def look(partition: int, oldest: Waiting | None, **counts: int) -> QueueLook:
    return QueueLook(partition, **({"due": 0, "waiting": 0, "leased": 0, "expired": 0} | counts), oldest=oldest)


def test_the_longest_unanswered_user_is_the_one_with_the_earliest_deadline() -> None:
    looks = [
        look(0, Waiting("late", NOW_MS - 7_000, 1), due=3, leased=1),
        look(1, Waiting("later", NOW_MS - 9_000, 2), due=1, waiting=4),
        look(2, None),
    ]
    found = waiting(looks, DEFAULT.delays_ms, NOW_MS)
    assert (found["due"], found["waiting"], found["leased"]) == (4, 4, 1)
    assert found["oldest"] == {
        "user_id": "later",
        "class": "browse",
        "late_ms": 9_000,
        "waits_ms": 9_000 + DEFAULT.delays_ms[2],
    }


def test_a_user_whose_deadline_is_to_come_is_not_unanswered() -> None:
    assert waiting([look(0, Waiting("u", NOW_MS + 1, 1), waiting=1)], DEFAULT.delays_ms, NOW_MS)["oldest"] is None


@pytest.mark.parametrize(("every", "lines"), [(False, 1), (True, 2)])
def test_the_page_shows_partitions_that_are_behind_or_all(every: bool, lines: int) -> None:
    parts = [standing(0), standing(1, fence=9, oldest_ms=NOW_MS - 61_000)]
    known = facts(Seen({}, (), (), parts), [look(0, None)], DEFAULT.delays_ms, NOW_MS)
    console = Console(width=120)
    with console.capture() as capture:
        console.print(page(known, every=every, rate_per_s=30.0))
    said = capture.get()
    body = [line for line in said.splitlines() if line.startswith(" " * 10)]
    assert len(body) == lines
    assert "1 min 1 s" in said
    assert "applied: 30 offsets/s, 3 s to clear what is behind" in said
