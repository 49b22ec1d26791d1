"""What is set aside in a story: the breaker that stops it, and copies of what was put back."""

from __future__ import annotations

import pytest

from streams.breaker import Breaker, TooManyDeadLetters
from streams.pipeline import Limits
from streams.tables.part import Outcome
from tests.chunked import PARTITION, TOPICS, USERS, Raw, chunks, event, records, truth
from tests.unit.test_pipeline import Story, one

CLICKS, BROWSES = TOPICS.clicks, TOPICS.browses


async def guarded(story: Story | None = None, **options: float) -> Story:
    """A story whose breaker looks over ten records."""
    made = story or await Story().begin()
    made.pipeline.breaker = Breaker(made.table, records=10, **options)
    return made


def spoilt(n: int, first: int = 0) -> list[Raw]:
    return [Raw(first + i, USERS[0].encode(), b"{") for i in range(n)]


async def test_nothing_of_a_chunk_that_trips_is_sent_or_applied() -> None:
    story = await guarded()
    good = records(CLICKS, 20)
    await story.process(*chunks(CLICKS, good, 20))
    story.told.clear()
    with pytest.raises(TooManyDeadLetters, match="the fence stays at 19"):
        await story.process(*chunks(CLICKS, spoilt(8, 20), 8, prev=19))
    assert (story.told, story.letters) == ([], [])
    assert story.table.fence(CLICKS, PARTITION) == 19
    assert story.rows == truth(good)


async def test_a_neighbour_in_the_group_sends_no_letter_when_another_trips() -> None:
    story = await guarded()
    (few,), (many,) = chunks(CLICKS, spoilt(2), 10), chunks(BROWSES, spoilt(8), 10)
    with pytest.raises(TooManyDeadLetters, match=BROWSES):
        await story.pipeline.process([few, many])
    assert story.letters == []


async def test_another_process_over_the_same_store_trips_at_once() -> None:
    story = await guarded()
    first, second = chunks(CLICKS, spoilt(10), 5)
    await story.process(first)
    with pytest.raises(TooManyDeadLetters):
        await story.process(second)
    again = await guarded(await Story(store=story.store).begin())
    with pytest.raises(TooManyDeadLetters, match="stops at offsets 5 to 9"):
        await again.process(second)
    assert again.letters == []


async def test_it_is_open_until_the_records_are_let_through() -> None:
    story = await guarded()
    (chunk,) = chunks(CLICKS, spoilt(10), 10)
    with pytest.raises(TooManyDeadLetters):
        await story.process(chunk)
    through = await guarded(await Story(store=story.store).begin(), share=1.0)
    assert await through.process(chunk) == [Outcome.APPLIED]
    assert len(through.letters) == 10
    assert through.table.fence(CLICKS, PARTITION) == 9


async def test_good_records_and_few_bad_ones_pass() -> None:
    story = await guarded()
    assert await story.process(one(*[(USERS[0], b"{")] * 3, (USERS[1], event(USERS[1])))) == [Outcome.APPLIED]
    assert len(story.letters) == 3


async def test_a_rebuild_without_a_breaker_passes_over_everything() -> None:
    story = await Story().begin()
    assert await story.process(*chunks(CLICKS, spoilt(2000), 500)) == [Outcome.APPLIED] * 4


async def test_who_builds_anew_counts_an_original_or_its_copy_but_never_both() -> None:
    good = records(CLICKS, 20)
    within = (("kairos-copy-of", f"{PARTITION}:3".encode()),)
    elsewhere = (("kairos-copy-of", f"{PARTITION + 1}:3".encode()),)
    copies = [good[3]._replace(offset=20, headers=within), records(CLICKS, 1, seed=1)[0]._replace(offset=21)]
    copies[1] = copies[1]._replace(headers=elsewhere)
    (chunk,) = chunks(CLICKS, [*good, *copies], 50)
    (alone,) = chunks(CLICKS, [copies[0]._replace(offset=22)], 1, prev=21)
    story = await Story().begin()
    story.pipeline.limits = Limits(originals_only=True)
    assert await story.process(chunk, alone) == [Outcome.APPLIED] * 2
    assert story.rows == truth([*good, copies[1]])
