"""The item store on a real Valkey: full load, following what is touched, and the reload after falling behind."""

from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import numpy as np
import orjson
import pytest

from model_server.items import ItemStore
from schemas.items import Item, encode_item
from schemas.keys import Keys
from schemas.partition import partition_of
from streams.features.columns import item_code
from streams.features.declaration import DEFAULT
from streams.features.items import ItemEvents, ItemLayout, fold_items
from streams.features.rows import SchemaMismatchError

T = 1_800_000_000_000
LAYOUT = ItemLayout(DEFAULT)
PARTITIONS = 2
namespaces = count()


def row_of(clicks: int) -> bytes:
    """A row that has seen this many clicks at T."""
    rows = LAYOUT.empty(1)
    codes = np.zeros((clicks, len(DEFAULT.profile_names)), np.uint8)
    events = ItemEvents(np.full(clicks, T), np.full(clicks, DEFAULT.code("click"), np.uint8), codes)
    fold_items(LAYOUT, rows, np.zeros(clicks, np.int64), events)
    return bytes(LAYOUT.pack(rows)[0])


class Shop:
    """Writes items as the item agent does: row, entry and the stream of touched ids."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self.keys = Keys(f"items{next(namespaces)}")
        self.store = ItemStore(redis, self.keys, PARTITIONS, LAYOUT)

    def tag(self, item_id: str) -> bytes:
        return self.keys.item_tag(partition_of(item_id.encode(), PARTITIONS))

    async def clicked(self, *item_ids: str, clicks: int = 1) -> None:
        for item_id in item_ids:
            await self.redis.hset(self.keys.item_rows(self.tag(item_id)), item_id, row_of(clicks))
            await self.touched(item_id)

    async def listed(self, *items: Item) -> None:
        for item in items:
            await self.redis.hset(self.keys.catalogue(self.tag(item.item_id)), item.item_id, encode_item(item))
            await self.touched(item.item_id)

    async def removed(self, item_id: str) -> None:
        await self.redis.hdel(self.keys.catalogue(self.tag(item_id)), item_id)
        await self.touched(item_id)

    async def touched(self, item_id: str) -> None:
        await self.redis.xadd(self.keys.touched(self.tag(item_id)), {"ids": orjson.dumps([item_id])})

    async def load(self) -> None:
        await self.store.load()
        self.store.advance()

    def clicks(self, item_id: str) -> int:
        arrays = self.store.arrays
        (index,) = arrays.find(np.array([item_code(item_id)], np.uint64))
        return int(arrays.sums.totals[index])


@pytest.fixture
async def shop(client: Any) -> AsyncIterator[Shop]:
    made = Shop(client)
    yield made
    for partition in range(PARTITIONS):
        tag = made.keys.item_tag(partition)
        await client.unlink(made.keys.item_rows(tag), made.keys.catalogue(tag), made.keys.touched(tag))


async def test_the_whole_table_is_read(shop: Shop) -> None:
    names = [f"item-{i}" for i in range(1_300)]
    await shop.clicked(*names[:20])
    pipe = shop.redis.pipeline(transaction=False)
    for name in names[20:]:
        pipe.hset(shop.keys.item_rows(shop.tag(name)), name, row_of(3))
    await pipe.execute()
    await shop.load()
    arrays = shop.store.arrays
    assert sorted(arrays.ids) == sorted(names)
    assert (shop.clicks("item-7"), shop.clicks("item-1299")) == (1, 3)
    assert arrays.find(arrays.codes).tolist() == list(range(1_300))


async def test_what_the_catalogue_says(shop: Shop) -> None:
    await shop.listed(
        Item("a", title="红色 外套", category="coats", price=12.5, in_stock=False),
        Item("b", category="hats"),
        Item("c", category="coats"),
    )
    await shop.clicked("ghost")
    await shop.load()
    arrays = shop.store.arrays
    at = {name: arrays.ids.index(name) for name in ("a", "b", "c", "ghost")}
    assert [arrays.titles[at[name]] for name in at] == ["红色 外套", "", "", ""]
    assert [arrays.category[at[name]] == arrays.category[at["a"]] for name in at] == [True, False, True, False]
    assert arrays.category[at["ghost"]] == -1
    assert arrays.price[at["a"]] == 12.5
    assert np.isnan(arrays.price[at["b"]])
    assert [bool(arrays.in_stock[at[name]]) for name in at] == [False, True, True, True]
    assert [bool(arrays.listed[at[name]]) for name in at] == [True, True, True, False]


async def test_a_shop_without_a_catalogue_may_propose_everything(shop: Shop) -> None:
    await shop.clicked("a", "b")
    await shop.load()
    assert shop.store.arrays.listed.tolist() == [True, True]


async def test_a_touched_item_is_read_again_but_shown_only_on_advance(shop: Shop) -> None:
    await shop.clicked("a")
    await shop.load()
    revision = shop.store.arrays.revision
    await shop.clicked("a", clicks=5)
    assert await shop.store.poll() == (1, False)
    assert (shop.clicks("a"), shop.store.arrays.revision) == (1, revision)
    shop.store.advance()
    assert (shop.clicks("a"), shop.store.arrays.revision) == (5, revision + 1)
    assert await shop.store.poll() == (0, False)


async def test_new_items_are_appended_and_the_old_keep_their_index(shop: Shop) -> None:
    await shop.clicked("a", "b")
    await shop.load()
    before = list(shop.store.arrays.ids)
    await shop.clicked(*[f"n{i}" for i in range(5)])
    await shop.store.poll()
    shop.store.advance()
    assert shop.store.arrays.ids[:2] == before
    assert sorted(shop.store.arrays.ids[2:]) == [f"n{i}" for i in range(5)]


async def test_counters_leave_the_catalogue_revision_alone(shop: Shop) -> None:
    await shop.listed(Item("a", title="x"))
    await shop.load()
    arrays = shop.store.arrays
    before = arrays.catalogue_revision
    await shop.clicked("a")
    await shop.store.poll()
    shop.store.advance()
    assert arrays.catalogue_revision == before
    await shop.listed(Item("a", title="y"))
    await shop.store.poll()
    shop.store.advance()
    assert (arrays.catalogue_revision, arrays.titles) == (before + 1, ["y"])


async def test_an_item_taken_out_of_the_catalogue_is_not_listed(shop: Shop) -> None:
    await shop.listed(Item("a"), Item("b"))
    await shop.load()
    await shop.removed("a")
    await shop.store.poll()
    shop.store.advance()
    listed = dict(zip(shop.store.arrays.ids, shop.store.arrays.listed.tolist(), strict=True))
    assert listed == {"a": False, "b": True}


async def test_a_store_that_fell_behind_reads_everything_again(shop: Shop) -> None:
    await shop.clicked("a", "b", "c", "d")
    await shop.load()
    await shop.clicked("a", "b", "c", "d", clicks=9)
    for partition in range(PARTITIONS):
        await shop.redis.xtrim(shop.keys.touched(shop.keys.item_tag(partition)), maxlen=1, approximate=False)
    assert (await shop.store.poll()).reloaded
    shop.store.advance()
    assert [shop.clicks(name) for name in "abcd"] == [9] * 4
    assert await shop.store.poll() == (0, False)


async def test_a_flushed_redis_is_noticed(shop: Shop) -> None:
    await shop.clicked("a")
    await shop.load()
    for partition in range(PARTITIONS):
        tag = shop.keys.item_tag(partition)
        await shop.redis.unlink(shop.keys.item_rows(tag), shop.keys.touched(tag))
    assert (await shop.store.poll()).reloaded
    shop.store.advance()
    assert shop.clicks("a") == 0


async def test_a_row_of_another_declaration_is_refused_with_the_remedy(shop: Shop) -> None:
    row = bytearray(row_of(1))
    row[0] ^= 1
    await shop.redis.hset(shop.keys.item_rows(shop.tag("a")), "a", bytes(row))
    with pytest.raises(SchemaMismatchError, match="rebuild"):
        await shop.load()


async def test_an_unknown_code_has_no_index(shop: Shop) -> None:
    codes = np.array([[1, 2]], np.uint64)
    assert shop.store.arrays.find(codes).tolist() == [[-1, -1]]
    await shop.clicked("a")
    await shop.load()
    assert shop.store.arrays.find(codes).tolist() == [[-1, -1]]
