"""The circuit breaker: when it trips, when it never does, and that a start after a stop trips at the same place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.breaker import Breaker, Step, TooManyDeadLetters, Window
from streams.metrics import LetterShares

CLICKS, OF = "events.clicks.v1", 10


class Placed(NamedTuple):
    offset: int


class Bad(NamedTuple):
    record: Placed
    reason: str = "json"
    detail: str = "The value is not one JSON object."


class Kept:
    """Notes that outlive a process."""

    def __init__(self) -> None:
        self.notes: dict[tuple[str, int], bytes] = {}

    def note(self, topic: str, partition: int) -> bytes:
        return self.notes.get((topic, partition), b"")

    async def keep_note(self, topic: str, partition: int, note: bytes) -> None:
        self.notes[topic, partition] = note


def step(good: str, first: int = 0, *, fence: int | None = None, partition: int = 0) -> Step:
    """A step of one record a letter, "." good and anything else bad; `fence` is below the first by default."""
    records = [Placed(first + i) for i in range(len(good))]
    letters = [Bad(record) for record, mark in zip(records, good, strict=True) if mark != "."]
    return Step(CLICKS, partition, first - 1 if fence is None else fence, records, letters)


async def letters_sent(breaker: Breaker, steps: Sequence[Step]) -> tuple[int, Step | None]:
    """How many letters left, and the step at which it tripped."""
    sent = 0
    for one in steps:
        try:
            await breaker.admit([one])
        except TooManyDeadLetters:
            return sent, one
        sent += len(one.letters)
    return sent, None


def cut(log: str, size: int) -> list[Step]:
    return [step(log[i : i + size], i) for i in range(0, len(log), size)]


async def test_it_trips_on_more_than_the_share_of_the_last_records() -> None:
    assert await letters_sent(Breaker(Kept(), records=OF), cut("x.x.x.x.x." * 5, 2)) == (25, None)
    sent, at = await letters_sent(Breaker(Kept(), records=OF), cut("x.x.x.xxxx" * 5, 2))
    assert (sent, at and at.fence) == (5, 7)


async def test_few_records_never_trip_it() -> None:
    assert await letters_sent(Breaker(Kept()), cut("x" * 500, 100)) == (500, None)
    sent, at = await letters_sent(Breaker(Kept()), cut("x" * 600, 100))
    assert (sent, at and at.fence) == (500, 499)


async def test_a_share_of_one_lets_everything_through() -> None:
    assert await letters_sent(Breaker(Kept(), records=OF, share=1.0), cut("x" * 50, 7)) == (50, None)


async def test_good_records_after_a_flood_within_one_large_step_do_not_hide_it() -> None:
    with pytest.raises(TooManyDeadLetters):
        await Breaker(Kept(), records=OF).admit([step("x" * 90 + "." * 10)])


async def test_partitions_are_judged_apart() -> None:
    breaker = Breaker(Kept(), records=OF)
    await breaker.admit([step("xxxxx"), step("xxxxx", partition=1)])
    assert list(breaker.shares()) == [(CLICKS, 0, 0.5), (CLICKS, 1, 0.5)]


async def test_nothing_of_a_group_is_admitted_when_one_of_it_trips() -> None:
    kept = Kept()
    with pytest.raises(TooManyDeadLetters):
        await Breaker(kept, records=OF).admit([step("x"), step("x" * 9, partition=1)])
    assert set(kept.notes) == {(CLICKS, 1)}


async def test_the_refusal_names_place_reason_example_and_remedy() -> None:
    breaker = Breaker(Kept(), records=OF)
    with pytest.raises(TooManyDeadLetters) as refused:
        await breaker.admit([step("." + "x" * 9, 100)])
    text = str(refused.value)
    assert text.startswith("events.clicks.v1:0 stops at offsets 100 to 109: more than 50% of its last 10 records would")
    assert 'with reason "json", such as offset 101: The value is not one JSON object. None of these was sent' in text
    assert "the fence stays at 99" in text
    assert "KAIROS_BREAKER_SHARE=1" in text
    assert "kairos dead-letters redrive" in text
    assert breaker.open == {f"{CLICKS}:0": text}


@pytest.mark.parametrize("size", [1, 3, 50])
async def test_starts_after_a_trip_send_nothing_more_than_one_process_would(size: int) -> None:
    kept, log, sent, fence = Kept(), "x" * 200, 0, -1
    for _ in range(20):
        more, at = await letters_sent(
            Breaker(kept, records=OF), [step(log[i : i + size], i) for i in range(fence + 1, 200, size)]
        )
        assert at is not None
        sent, fence = sent + more, at.fence
        said = Window.of_note(kept.note(CLICKS, 0))
        assert said is not None
        assert said.tripped is not None
        assert (said.tripped.first, said.tripped.reason) == (fence + 1, "json")
    assert sent <= 5


async def test_a_step_that_was_looked_at_and_not_applied_counts_once() -> None:
    kept = Kept()
    breaker = Breaker(kept, records=OF)
    for _ in range(5):
        await breaker.admit([step("xxx")])
    await Breaker(kept, records=OF).admit([step("xxx")])
    assert [share for *_, share in breaker.shares()] == [0.3]


async def test_once_let_through_the_note_no_longer_says_that_it_is_open() -> None:
    kept = Kept()
    with pytest.raises(TooManyDeadLetters):
        await Breaker(kept, records=OF).admit([step("x" * 9)])
    await Breaker(kept, records=OF, share=1).admit([step("x" * 9)])
    said = Window.of_note(kept.note(CLICKS, 0))
    assert said is not None
    assert (said.offset, said.bits, said.tripped) == (8, 0x1FF, None)


async def test_what_another_process_applied_meanwhile_is_known_from_its_note() -> None:
    kept = Kept()
    mine, other = Breaker(kept, records=OF), Breaker(kept, records=OF)
    await mine.admit([step("xx")])
    await other.admit([step("xxx", 2)])
    await mine.admit([step(".", 5)])
    assert [share for *_, share in mine.shares()] == [0.5]
    with pytest.raises(TooManyDeadLetters):
        await mine.admit([step("x", 6)])


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"offset": 1}', b'{"offset": 1, "bits": "zz", "tripped": null}'])
def test_a_spoiled_note_is_none(note: bytes) -> None:
    assert Window.of_note(note) is None


@given(
    st.text(alphabet=".x", max_size=80),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.2, 0.5, 0.99, 1.0]),
    st.sets(st.integers(0, 80)),
)
async def test_it_trips_exactly_where_a_count_over_the_log_says(
    log: str, size: int, share: float, starts: set[int]
) -> None:
    kept = Kept()
    breaker, tripped_at = Breaker(kept, records=OF, share=share), None
    for i, one in enumerate(cut(log, size)):
        if i in starts:
            breaker = Breaker(kept, records=OF, share=share)  # another process takes over
        try:
            await breaker.admit([one])
        except TooManyDeadLetters:
            tripped_at = one.fence + 1
            break
    assert tripped_at == _truth(log, size, lambda bad: bad > share * OF)


def _truth(log: str, size: int, too_many: Callable[[int], bool]) -> int | None:
    for i in range(len(log)):
        if log[i] == "x" and too_many(log[max(0, i - OF + 1) : i + 1].count("x")):
            return i // size * size
    return None


async def test_metrics_tell_how_near_it_is_and_that_it_is_open() -> None:
    breaker = Breaker(Kept(), records=OF)
    await breaker.admit([step("xx..", partition=3)])
    with pytest.raises(TooManyDeadLetters):
        await breaker.admit([step("x" * 9)])
    shares, opened = LetterShares([breaker]).collect()
    assert [(s.labels, s.value) for s in shares.samples] == [({"topic": CLICKS, "partition": "3"}, 0.2)]
    assert [sample.value for sample in opened.samples] == [1]
