"""The story of one chunk, over the memory twin: what leaves, in which order, and what the rows come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from schemas.deltas import DeltaSource, unpack_deltas
from schemas.partition import partition_of
from streams.chunks.chunk import Chunk
from streams.features.columns import Columns, Encoder
from streams.features.declaration import DEFAULT
from streams.tables.errors import Rewind
from streams.tables.memory import MemoryStore
from streams.tables.part import Outcome
from streams.tables.users import heard
from streams.testing import Fault, Harness
from tests.chunked import (
    NOW_MS,
    PARTITION,
    PARTITIONS,
    TOPICS,
    USERS,
    Raw,
    chunks,
    event,
    facts,
    process_one,
    records,
    truth,
)

CLICKS, BROWSES = TOPICS.clicks, TOPICS.browses
HOMES = 3
STRANGER = next(u for u in (f"s{i}" for i in range(99)) if partition_of(u.encode(), PARTITIONS) != PARTITION)


class Story:
    """A pipeline whose every effect is written down in order."""

    def __init__(self, store: MemoryStore | None = None, encoder: Encoder | None = None) -> None:
        kairos = Harness(partitions=PARTITIONS, item_partitions=HOMES, start=NOW_MS, encoder=encoder, store=store)
        self.kairos, self.world = kairos, kairos.world
        self.told, self.plan = kairos.steps.taken, kairos.steps.plan
        self.letters, self.records = self.world.letters.sent, self.world.deltas.sent
        self.table, self.pipeline, self.store = kairos.worker.users, kairos.worker.pipeline, self.world.store

    async def begin(self) -> Story:
        for topic in (CLICKS, BROWSES):
            await self.table.initialise(facts(topic))
        return self

    async def process(self, *wanted: Chunk) -> list[Outcome]:
        return [await process_one(self.pipeline, chunk) for chunk in wanted]

    @property
    def rows(self) -> dict[bytes, bytes]:
        return self.store.tag(self.table.tag(PARTITION)).users


@pytest.fixture
async def story() -> Story:
    return await Story().begin()


def one(*values: tuple[str, bytes | None], topic: str = CLICKS, first: int = 0) -> Chunk:
    """A chunk of these (key, value) records."""
    log = [Raw(first + i, key.encode(), value) for i, (key, value) in enumerate(values)]
    return chunks(topic, log, len(log))[0]


def pairs(log: Sequence[Raw]) -> list[tuple[str, bytes | None]]:
    return [(record.key.decode(), record.value) for record in log if record.key]


async def test_what_leaves_leaves_before_the_fence_moves(story: Story) -> None:
    await story.process(one((USERS[0], event(USERS[0])), (USERS[1], b"{")))
    assert story.told == ["letters", "deltas", "commit"]


async def test_neither_a_conflict_nor_a_lost_reply_sends_again(story: Story) -> None:
    story.plan |= {1: Fault.CONFLICT, 2: Fault.UNHEARD, 4: Fault.CONFLICT}
    log = records(CLICKS, 100)
    assert await story.process(*chunks(CLICKS, log)) == [Outcome.APPLIED] * 2
    assert story.told.count("deltas") == 2
    assert story.rows == truth(log)


async def test_a_chunk_with_nothing_to_send_sends_nothing(story: Story) -> None:
    log = [Raw(0, USERS[0].encode(), event(USERS[0], kind="return"))]
    await story.table.initialise(facts(TOPICS.orders))
    await story.process(*chunks(TOPICS.orders, log))
    assert story.told == ["commit"]


async def test_a_skipped_chunk_and_a_hole_send_nothing(story: Story) -> None:
    first, _, third = chunks(CLICKS, records(CLICKS, 150))
    await story.process(first)
    story.told.clear()
    assert await story.process(first) == [Outcome.SKIPPED]
    with pytest.raises(Rewind):
        await story.process(third)
    assert story.told == []


async def test_a_stale_chunk_is_given_up(story: Story) -> None:
    (chunk,) = chunks(CLICKS, records(CLICKS, 10))
    assert await process_one(story.pipeline, chunk, lambda: True) is Outcome.STALE
    assert story.told == []
    assert story.rows == {}


async def test_bad_records_go_aside_and_harm_no_neighbour(story: Story) -> None:
    good = records(CLICKS, 20)
    bad = [(USERS[0], b"{"), (USERS[1], event(USERS[2])), (STRANGER, event(STRANGER)), (USERS[3], None)]
    mixed = one(*pairs(good[:10]), *bad, *pairs(good[10:]))
    assert await story.process(mixed) == [Outcome.APPLIED]
    assert story.rows == truth(good)
    assert sorted(letter.reason for letter in story.letters) == ["json", "key mismatch", "null value", "partition"]
    assert story.pipeline.stats.rejects == {"json": 1, "key mismatch": 1, "null value": 1, "partition": 1}
    assert {letter.record.offset for letter in story.letters} == {10, 11, 12, 13}
    assert story.table.fence(CLICKS, PARTITION) == 23


async def test_a_user_of_another_partition_is_told_the_remedy(story: Story) -> None:
    await story.process(one((STRANGER, event(STRANGER))))
    assert "murmur2" in story.letters[0].detail
    assert story.rows == {}


async def test_a_chunk_of_nothing_but_bad_records_moves_on(story: Story) -> None:
    await story.process(one((USERS[0], b"x"), (USERS[1], b"y")))
    assert story.told == ["letters", "commit"]
    assert story.table.fence(CLICKS, PARTITION) == 1


async def test_an_event_of_the_future_is_a_result_not_a_letter(story: Story) -> None:
    await story.process(one((USERS[0], event(USERS[0], ts_ms=NOW_MS + 3_600_000))))
    assert story.letters == []
    assert story.pipeline.stats.results["future"] == 1
    assert story.rows == {}


async def test_an_overlap_is_read_from_the_fence_on(story: Story) -> None:
    log = records(CLICKS, 100)
    await story.process(*chunks(CLICKS, log[:60], 60))
    story.records.clear()
    (overlap,) = chunks(CLICKS, log[30:], 70)
    await story.process(overlap)
    assert story.rows == truth(log)
    assert {(DeltaSource.of(r.headers).first, DeltaSource.of(r.headers).last) for r in story.records} == {(60, 99)}


async def test_deltas_say_what_the_events_said(story: Story) -> None:
    log = records(CLICKS, 100, gaps=True)
    (chunk,) = chunks(CLICKS, log, 100)
    await story.process(chunk)
    said = set()
    for record in story.records:
        source = DeltaSource.of(record.headers)
        assert (source.topic, source.partition, source.incarnation) == (CLICKS, PARTITION, "id-1")
        deltas, ids = unpack_deltas(record.value)
        assert {partition_of(item.encode(), HOMES) for item in ids} == {record.partition}
        said |= {(source.first + int(d["offset"]), int(d["ts_ms"]), ids[d["item"]]) for d in deltas}
    assert said == {(r.offset, *_time_and_item(r)) for r in log}


def _time_and_item(record: Raw) -> tuple[int, str]:
    body = orjson.loads(record.value or b"")
    return body["ts_ms"], body["item_id"]


async def test_deltas_do_not_depend_on_the_clock_or_on_what_was_before(story: Story) -> None:
    log = records(CLICKS, 100)
    first, second = chunks(CLICKS, log)
    await story.process(first, second)
    other = await Story().begin()
    other.kairos.advance(1_000_000)
    await other.process(first, second)
    assert other.records == story.records


class Touchy(Encoder):
    """An encoder with a fault: it fails on one item, and makes columns that cannot be folded of another."""

    def encode(self, run: Any) -> Columns:
        items = [event.item_id for event in run.events]
        if "bomb" in items:
            raise ZeroDivisionError
        columns = super().encode(run)
        mine = np.array([item == "mine" for item in items], bool)
        if not mine.any():
            return columns
        zone = columns.zone.astype(object)
        zone[mine] = None  # nothing that its deltas carry, but its row cannot be folded
        return columns._replace(zone=zone)


@pytest.mark.parametrize("item", ["bomb", "mine"])
async def test_poison_is_set_aside_alone(item: str) -> None:
    story = await Story(encoder=Touchy(DEFAULT)).begin()
    good = records(CLICKS, 60)
    poison = [(user, event(user, item=item)) for user in USERS[5:7]]
    chunk = one(*pairs(good[:9]), poison[0], *pairs(good[9:]), poison[1])
    assert await story.process(chunk) == [Outcome.APPLIED]
    assert story.rows == truth(good)
    assert [(letter.reason, letter.record.offset) for letter in story.letters] == [("poison", 9), ("poison", 61)]
    assert story.table.fence(CLICKS, PARTITION) == 61
    assert story.told.count("deltas") == 1


async def test_a_group_leaves_together_and_its_rows_are_those_of_one_after_the_other(story: Story) -> None:
    clicks, browses = records(CLICKS, 40), records(BROWSES, 60)
    bad = one(*pairs(clicks), (USERS[0], b"{"))
    assert await story.pipeline.process([bad, *chunks(BROWSES, browses, 60)]) == [Outcome.APPLIED] * 2
    assert story.told == ["letters", "deltas", "commit"]
    assert story.rows == truth(clicks, browses)
    assert {DeltaSource.of(record.headers).topic for record in story.records} == {CLICKS, BROWSES}


@pytest.mark.parametrize("item", ["bomb", "mine"])
async def test_poison_of_one_chunk_leaves_its_neighbours_whole(item: str) -> None:
    story = await Story(encoder=Touchy(DEFAULT)).begin()
    clicks, browses = records(CLICKS, 30), records(BROWSES, 50)
    spoilt = one(*pairs(clicks), (USERS[5], event(USERS[5], item=item)))
    assert await story.pipeline.process([spoilt, *chunks(BROWSES, browses)]) == [Outcome.APPLIED] * 2
    assert story.rows == truth(clicks, browses)
    assert [(letter.topic, letter.reason, letter.record.offset) for letter in story.letters] == [(CLICKS, "poison", 30)]


async def test_a_hole_or_a_stale_chunk_does_not_hold_up_its_group(story: Story) -> None:
    first, third, browse = *chunks(CLICKS, records(CLICKS, 100)), *chunks(BROWSES, records(BROWSES, 50))
    rewind, applied = await story.pipeline.process([third, browse])
    assert (type(rewind), applied) == (Rewind, Outcome.APPLIED)
    stale_and_good = await story.pipeline.process([browse, first], lambda chunk: chunk.topic == BROWSES)
    assert stale_and_good == [Outcome.STALE, Outcome.APPLIED]


async def test_a_step_that_fails_on_everything_is_not_blamed_on_the_records() -> None:
    story = await Story(encoder=Touchy(DEFAULT)).begin()
    everything = one(*[(user, event(user, item="bomb")) for user in USERS[:20]])
    with pytest.raises(ZeroDivisionError):
        await story.process(everything)
    assert story.letters == []
    assert story.rows == {}


async def test_late_events_are_counted_by_outcome(story: Story) -> None:
    recent = one((USERS[0], event(USERS[0], ts_ms=NOW_MS - 1_000)))
    late = one((USERS[0], event(USERS[0], ts_ms=NOW_MS - 2_000_000)), first=1)
    await story.process(recent, late)
    assert story.table.late == {"partial": 1}


def test_a_users_delay_begins_when_kafka_took_the_event_but_never_long_ago() -> None:
    assert [heard(t, 10_000) for t in (9_940, 10_050, 200, -1)] == [9_940, 10_000, 9_000, 10_000]
