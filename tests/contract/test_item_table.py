"""The contract of the item side: deltas count once, however cut, repeated or late; an item's last entry holds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from schemas.deltas import DeltaSource
from schemas.keys import Keys
from schemas.partition import partition_of
from schemas.topics import Topics
from streams.deltas import DeltaMaker, DeltaRecord
from streams.features.declaration import DEFAULT
from streams.features.items import ItemEvents, ItemLayout, fold_items
from streams.item_pipeline import ItemPipeline
from streams.tables.errors import Broken, OtherDeclaration
from streams.tables.items import ItemTable
from streams.tables.part import Outcome
from streams.tables.weather import Weather
from streams.testing.log import cut
from streams.testing.steps import Letters, Steps
from tests.chunked import TOPICS, Raw, change, facts, items, process_one, records
from tests.contract.backends import Backend, InRedis

HOMES = 3
HOME = 0
LAYOUT = ItemLayout(DEFAULT)
MAKER = DeltaMaker(DEFAULT, HOMES)
CLICKS, BROWSES, DELTAS, ITEMS = TOPICS.clicks, TOPICS.browses, TOPICS.deltas, TOPICS.items


class Side:
    """One process of the item side, and the deltas topic that it reads."""

    def __init__(self, backend: Backend, keys: Keys, writer: str = "a") -> None:
        weather = Weather(first_pause_s=0.001, longest_pause_s=0.01)
        self.backend = backend
        self.tag = keys.item_tag(HOME)
        self.table = ItemTable(backend.store, keys, LAYOUT, writer=writer, weather=weather)
        self.letters = Letters(Steps())
        self.pipeline = ItemPipeline(self.table, Topics(), self.letters)

    async def begin(self) -> Side:
        for topic in (DELTAS, ITEMS):
            await self.table.initialise(facts(topic, partition=HOME, partitions=HOMES))
        return self

    async def read(self, log: Sequence[Raw], topic: str = DELTAS, size: int = 7) -> list[Outcome]:
        """The whole log in chunks."""
        made = [cut(topic, HOME, log[i : i + size]) for i in range(0, len(log), size)]
        return [await process_one(self.pipeline, chunk) for chunk in made]

    async def rows(self) -> dict[bytes, bytes]:
        store = self.backend.store
        if isinstance(self.backend, InRedis):
            return dict(await self.backend.client.hgetall(Keys.item_rows(self.tag)))
        return dict(store.tag(self.tag).items)

    async def catalogue(self) -> dict[bytes, bytes]:
        store = self.backend.store
        if isinstance(self.backend, InRedis):
            return dict(await self.backend.client.hgetall(Keys.catalogue(self.tag)))
        return dict(store.tag(self.tag).catalogue)

    async def touched(self) -> list[list[str]]:
        if isinstance(self.backend, InRedis):
            entries = await self.backend.client.xrange(Keys.touched(self.tag))
            return [orjson.loads(fields[b"ids"]) for _, fields in entries]
        return [orjson.loads(ids) for ids in self.backend.store.tag(self.tag).touched]


@pytest.fixture
async def side(backend: Backend, keys: Keys) -> Side:
    return await Side(backend, keys).begin()


def deltas_of(topic: str, log: Sequence[Raw], size: int, *, incarnation: str = "id-1") -> list[Raw]:
    """The delta records for HOME that a user worker sends for a log cut into chunks; offsets are given later."""
    made: list[DeltaRecord] = []
    for i in range(0, len(log), size):
        run = log[i : i + size]
        source = DeltaSource(topic, 1, incarnation, run[0].offset, run[-1].offset, DEFAULT.schema)
        said = change(run)
        made += MAKER.make(source, said.offsets, said.columns, items(run))
    return [Raw(0, None, r.value, headers=tuple(r.headers)) for r in made if r.partition == HOME]


def topic_of(*runs: Sequence[Raw]) -> list[Raw]:
    """One partition of the deltas topic holding these records in this order."""
    return [record._replace(offset=i) for i, record in enumerate(r for run in runs for r in run)]


def truth(*logs: Sequence[Raw]) -> dict[bytes, bytes]:
    """The row of every item at home after all these user events, each counted once."""
    whole = [record for log in logs for record in log]
    said = change(whole)
    counted = np.array([kind.item for kind in DEFAULT.kinds])[said.columns.kind]
    here = np.flatnonzero(np.array([partition_of(item.encode(), HOMES) == HOME for item in items(whole)]) & counted)
    said, names = said.take(here), [items(whole)[i] for i in here]
    ids = list(dict.fromkeys(names))
    rows = LAYOUT.empty(len(ids))
    columns = [DEFAULT.scene_names.index(name) for name in DEFAULT.profile_names]
    events = ItemEvents(said.columns.ts_ms, said.columns.kind, said.columns.codes[:, columns])
    fold_items(LAYOUT, rows, np.array([ids.index(item) for item in names]), events)
    return {name.encode(): bytes(row) for name, row in zip(ids, LAYOUT.pack(rows), strict=True)}


CLICK_LOG, BROWSE_LOG = records(CLICKS, 400), records(BROWSES, 300)


async def test_deltas_of_two_topics_become_the_rows_of_all_events(side: Side) -> None:
    log = topic_of(deltas_of(CLICKS, CLICK_LOG, 40), deltas_of(BROWSES, BROWSE_LOG, 25))
    assert set(await side.read(log)) == {Outcome.APPLIED}
    assert await side.rows() == truth(CLICK_LOG, BROWSE_LOG)
    assert {item for ids in await side.touched() for item in ids} == {name.decode() for name in await side.rows()}


async def test_rows_do_not_depend_on_how_the_log_is_cut(side: Side) -> None:
    await side.read(topic_of(deltas_of(CLICKS, CLICK_LOG, 400), deltas_of(BROWSES, BROWSE_LOG, 1)), size=1000)
    assert await side.rows() == truth(CLICK_LOG, BROWSE_LOG)


async def test_records_sent_again_count_once(side: Side) -> None:
    clicks = deltas_of(CLICKS, CLICK_LOG, 40)
    zombies = deltas_of(CLICKS, CLICK_LOG[:200], 40)
    await side.read(topic_of(clicks[:5], clicks[2:5], clicks[5:], zombies))
    assert await side.rows() == truth(CLICK_LOG)
    assert side.table.deltas["repeated"] > 0


async def test_an_overlap_of_another_cut_counts_only_what_is_new(side: Side) -> None:
    await side.read(topic_of(deltas_of(CLICKS, CLICK_LOG[:130], 130), deltas_of(CLICKS, CLICK_LOG, 100)))
    assert await side.rows() == truth(CLICK_LOG)
    assert side.table.deltas["repeated"] == sum(
        partition_of(item.encode(), HOMES) == HOME for item in items(CLICK_LOG[:130])
    )


async def test_the_next_incarnation_of_a_topic_counts_from_its_own_start(side: Side) -> None:
    again = deltas_of(CLICKS, CLICK_LOG, 40, incarnation="id-2")
    await side.read(topic_of(deltas_of(CLICKS, CLICK_LOG, 40), again))
    twice = [record._replace(offset=record.offset + 1000) for record in CLICK_LOG]
    assert await side.rows() == truth(CLICK_LOG, twice)


async def test_a_process_that_takes_over_knows_what_was_counted(side: Side, backend: Backend, keys: Keys) -> None:
    clicks = deltas_of(CLICKS, CLICK_LOG, 40)
    log = topic_of(clicks, clicks)
    await side.read(log[: len(clicks)])
    other = Side(backend, keys, "b")
    await other.read(log[len(clicks) :])
    assert await side.rows() == truth(CLICK_LOG)


async def test_a_rollback_of_the_store_counts_nothing_twice(side: Side, backend: Backend) -> None:
    log = topic_of(deltas_of(CLICKS, CLICK_LOG, 40), deltas_of(BROWSES, BROWSE_LOG, 25))
    await side.read(log[:8], size=4)
    saved = await backend.save(side.tag)
    await side.read(log[8:12], size=4)
    await backend.restore(side.tag, saved)
    assert await side.table.reload_fence(DELTAS, HOME) == 7
    await side.read(log[8:], size=4)
    assert await side.rows() == truth(CLICK_LOG, BROWSE_LOG)


async def test_two_writers_racing_give_exact_rows(side: Side, backend: Backend, keys: Keys) -> None:
    log = topic_of(deltas_of(CLICKS, CLICK_LOG, 10), deltas_of(BROWSES, BROWSE_LOG, 10))
    await asyncio.gather(side.read(log, size=3), Side(backend, keys, "b").read(log, size=3))
    assert await side.rows() == truth(CLICK_LOG, BROWSE_LOG)


async def test_what_is_no_delta_record_goes_to_the_dead_letters(side: Side) -> None:
    clicks = deltas_of(CLICKS, CLICK_LOG, 40)
    bad = [Raw(0, None, b"{}"), clicks[0]._replace(headers=()), clicks[1]._replace(value=clicks[1].value[:-3])]  # type: ignore[index]
    await side.read(topic_of(bad[:1], clicks[:4], bad[1:], clicks[4:]))
    assert await side.rows() == truth(CLICK_LOG)
    assert [letter.reason for letter in side.letters.sent] == ["shape"] * 3


async def test_deltas_that_cannot_be_folded_are_set_aside_alone(side: Side) -> None:
    clicks = deltas_of(CLICKS, CLICK_LOG, 40)
    head, count = 12, int.from_bytes(clicks[3].value[4:8], "little")  # type: ignore[index]
    value = bytearray(clicks[3].value or b"")
    value[head + 14] = 250  # the kind of its first delta: there is no such kind
    broken = clicks[3]._replace(value=bytes(value))
    assert count > 0
    await side.read(topic_of(clicks[:3], [broken], clicks[3:]), size=100)
    assert await side.rows() == truth(CLICK_LOG)
    assert [(letter.reason, letter.record.offset) for letter in side.letters.sent] == [("poison", 3)]


async def test_deltas_of_another_declaration_are_refused(side: Side) -> None:
    source = DeltaSource(CLICKS, 1, "id-1", 0, 9, DEFAULT.schema + 1)
    with pytest.raises(OtherDeclaration, match=r"one features\.toml"):
        await side.read([Raw(0, None, b"", headers=tuple(source.headers()))])


def catalogue(item: str, **said: object) -> Raw:
    return Raw(0, item.encode(), orjson.dumps({"item_id": item, **said}))


HERE = [f"i{i}" for i in range(100) if partition_of(f"i{i}".encode(), HOMES) == HOME]
ELSEWHERE = next(f"i{i}" for i in range(100) if partition_of(f"i{i}".encode(), HOMES) != HOME)


async def test_the_last_word_on_an_item_is_its_entry(side: Side) -> None:
    a, b, c = HERE[:3]
    log = topic_of([catalogue(a, title="old"), catalogue(b, title="b"), catalogue(a, title="new"), catalogue(c)])
    await side.read(log, ITEMS, size=3)
    gone = [Raw(4, b.encode(), None)]
    await side.read(gone, ITEMS)
    kept = await side.catalogue()
    assert {name: orjson.loads(entry).get("title") for name, entry in kept.items()} == {
        a.encode(): "new",
        c.encode(): None,
    }
    assert (await side.touched())[-1] == [b]
    assert await side.rows() == {}


async def test_a_wrong_catalogue_record_harms_none_of_its_neighbours(side: Side) -> None:
    log = topic_of([catalogue(HERE[0]), catalogue(ELSEWHERE), Raw(0, b"x", b"{"), catalogue(HERE[1])])
    await side.read(log, ITEMS)
    assert set(await side.catalogue()) == {HERE[0].encode(), HERE[1].encode()}
    assert [letter.reason for letter in side.letters.sent] == ["partition", "json"]


@pytest.mark.parametrize("key", [Keys.item_rows, Keys.catalogue, Keys.touched, Keys.meta])
async def test_a_key_of_the_wrong_type_leaves_nothing_half_written(side: Side, key: Any) -> None:
    if not isinstance(side.backend, InRedis):
        return
    clicks = topic_of(deltas_of(CLICKS, CLICK_LOG, 40))
    await side.read(clicks[:3], size=3)
    await side.read([catalogue(HERE[0])], ITEMS)
    await side.backend.client.unlink(key(side.tag))
    await side.backend.client.set(key(side.tag), "not what it should be")
    before = await side.backend.save(side.tag)
    with pytest.raises(Broken, match="WRONGTYPE"):
        await side.read(clicks[3:6], size=3)
    with pytest.raises(Broken, match="WRONGTYPE"):
        await side.read([catalogue(HERE[1])._replace(offset=1)], ITEMS)
    assert await side.backend.save(side.tag) == before


async def test_rows_beyond_the_cache_are_read_again(side: Side) -> None:
    side.table.cache_bytes = 3 * LAYOUT.row_bytes
    await side.read(topic_of(deltas_of(CLICKS, CLICK_LOG, 5)), size=1)
    assert await side.rows() == truth(CLICK_LOG)
    assert side.table.stats.rows_read > len(truth(CLICK_LOG))
