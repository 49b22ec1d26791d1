"""All items in memory: rows and catalogue of every item partition in growing arrays, following what changes."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from model_server.item_sums import ItemSums
from model_server.queue import Client
from model_server.scoring import F32, I32, I64, U64, Bools
from schemas.items import Item, decode_item
from schemas.keys import Keys
from schemas.partition import partition_of
from streams.features.columns import item_code
from streams.features.items import ItemLayout

log = logging.getLogger(__name__)

StoredItem = tuple[bytes | None, bytes | None]
"""Bytes of an item's row and of its catalogue entry, None where there is none."""
Position = tuple[int, int]
"""Place in a stream of touched ids: milliseconds and number, (0, 0) before the first."""

SCAN = 500
ENTRIES = 1_000


class Poll(NamedTuple):
    """What one look at the streams of touched ids brought."""

    touched: int
    reloaded: bool


class ItemArrays:
    """The arrays a ranker reads (`model_server.scoring.ItemState`); an item keeps its index, new ones are appended."""

    def __init__(self, layout: ItemLayout) -> None:
        self.layout = layout
        self.ids: list[str] = []
        self.titles: list[str] = []
        self.entries: list[Item | None] = []
        self.categories: list[str] = []
        self.revision = self.catalogue_revision = 0
        self._sums = ItemSums.of(layout, layout.empty(1024))
        self._codes = np.zeros(1024, np.uint64)
        self._category = np.full(1024, -1, np.int32)
        self._price = np.full(1024, np.nan, np.float32)
        self._in_stock = np.ones(1024, np.bool_)
        self._known = np.zeros(1024, np.bool_)
        self._titled = np.zeros(1024, np.int64)
        self._listed = np.ones(0, np.bool_)
        self._index: dict[str, int] = {}
        self._category_index: dict[str, int] = {}
        self._sorted, self._order = np.zeros(0, np.uint64), np.zeros(0, np.int32)

    @property
    def codes(self) -> U64:
        """u64[M]."""
        return self._codes[: len(self.ids)]

    @property
    def category(self) -> I32:
        """i32[M], -1 unknown."""
        return self._category[: len(self.ids)]

    @property
    def price(self) -> F32:
        """f32[M] in major units, NaN unknown."""
        return self._price[: len(self.ids)]

    @property
    def in_stock(self) -> Bools:
        """bool[M]."""
        return self._in_stock[: len(self.ids)]

    @property
    def titled(self) -> I64:
        """i64[M]: the catalogue revision with which the title came, 0 where there never was one."""
        return self._titled[: len(self.ids)]

    @property
    def listed(self) -> Bools:
        """bool[M]: in the catalogue, or there is no catalogue at all."""
        return self._listed

    def find(self, codes: U64) -> I32:
        """Index of each code, same shape, -1 where no such item is known."""
        if not len(self._sorted):
            return np.full(codes.shape, -1, np.int32)
        at = np.minimum(np.searchsorted(self._sorted, codes), len(self._sorted) - 1)
        return np.where(self._sorted[at] == codes, self._order[at], np.int32(-1)).astype(np.int32)

    def index_of(self, item_id: str) -> int:
        """Index of a known item; raises KeyError for an unknown one."""
        return self._index[item_id]

    @property
    def sums(self) -> ItemSums:  # of all M items
        return self._sums.at(slice(len(self.ids)))

    def put(self, stored: dict[str, StoredItem]) -> None:
        """Take over rows and entries by item id. Raises SchemaMismatchError on rows of another declaration."""
        if not stored:
            return
        rows = self.layout.unpack([row for row, _ in stored.values()])
        grown = self._add([item_id for item_id in stored if item_id not in self._index])
        index = np.fromiter(map(self._index.__getitem__, stored), np.int64, len(stored))
        self._sums.put(index, ItemSums.of(self.layout, rows))
        changed = [self._enter(i, entry) for i, (_, entry) in zip(index.tolist(), stored.values(), strict=True)]
        self.revision += 1
        if grown or any(changed):
            self.catalogue_revision += 1
            known = self._known[: len(self.ids)]
            self._listed = known.copy() if known.any() else np.ones(len(self.ids), np.bool_)

    def _add(self, fresh: Sequence[str]) -> bool:
        """Append items; whether there were any."""
        if not fresh:
            return False
        start = len(self.ids)
        self._reserve(start + len(fresh))
        self.ids += fresh
        self.titles += [""] * len(fresh)
        self.entries += [None] * len(fresh)
        self._codes[start : len(self.ids)] = [item_code(item_id) for item_id in fresh]
        self._index.update(zip(fresh, range(start, len(self.ids)), strict=True))
        self._sort_in(start)
        return True

    def _sort_in(self, start: int) -> None:
        """Merge the codes from `start` on into the sorted ones; of equal codes the first item stays the first."""
        codes = self._codes[start : len(self.ids)]
        order = np.argsort(codes, kind="stable")
        at = np.searchsorted(self._sorted, codes[order], side="right")
        self._sorted = np.insert(self._sorted, at, codes[order])
        self._order = np.insert(self._order, at, (start + order).astype(np.int32))

    def _reserve(self, n: int) -> None:
        """Room for n items, and as many again: memory that nobody writes costs nothing, a copy of all rows does."""
        if n > len(self._codes):
            room = 2 * n
            self._sums = self._sums.grown(room)
            self._codes = _grown(self._codes, np.zeros(room, np.uint64))
            self._category = _grown(self._category, np.full(room, -1, np.int32))
            self._price = _grown(self._price, np.full(room, np.nan, np.float32))
            self._in_stock = _grown(self._in_stock, np.ones(room, np.bool_))
            self._known = _grown(self._known, np.zeros(room, np.bool_))
            self._titled = _grown(self._titled, np.zeros(room, np.int64))

    def _enter(self, i: int, blob: bytes | None) -> bool:
        """Set what the catalogue says of item `i`; whether that changed anything."""
        entry = _decode(blob)
        if entry == self.entries[i]:
            return False
        self.entries[i] = entry
        self._known[i] = entry is not None
        self._name(i, (entry.title if entry else None) or "")
        self._category[i] = self._category_of(entry.category if entry else None)
        self._price[i] = np.nan if entry is None or entry.price is None else entry.price
        self._in_stock[i] = entry is None or entry.in_stock is not False
        return True

    def _name(self, i: int, title: str) -> None:
        if title != self.titles[i]:
            self.titles[i], self._titled[i] = title, self.catalogue_revision + 1

    def _category_of(self, name: str | None) -> int:
        if not name:
            return -1
        if name not in self._category_index:
            self._category_index[name] = len(self.categories)
            self.categories.append(name)
        return self._category_index[name]


def _grown(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """The larger array `new` that begins with the old one."""
    new[: len(old)] = old
    return new


def _decode(blob: bytes | None) -> Item | None:
    """The catalogue entry, None without one or where it cannot be read (the stream worker checked it on its way in)."""
    try:
        return None if blob is None else decode_item(blob)
    except msgspec.MsgspecError as error:
        log.warning("A catalogue entry cannot be read and counts as absent: %s", error)
        return None


class ItemStore:
    """Fills `arrays` from Redis: `load` once, `poll` often, `advance` between two scorings.

    `poll` only collects, so a ranker in another thread never sees an array change; `advance` makes the change.
    """

    def __init__(self, redis: Client, keys: Keys, partitions: int, layout: ItemLayout) -> None:
        self.arrays = ItemArrays(layout)
        self._redis: Any = redis
        self._tags = [keys.item_tag(partition) for partition in range(partitions)]
        self._keys = keys
        self._position: list[Position] = [(0, 0)] * partitions
        self._pending: dict[str, StoredItem] = {}

    async def load(self) -> None:
        """Read every item. Raises RedisError; may be called again."""
        for partition in range(len(self._tags)):
            await self._load(partition)

    async def poll(self) -> Poll:
        """Re-read the items touched since the last call; reads a partition anew where its stream was cut above us."""
        pipe = self._redis.pipeline(transaction=False)
        for tag, (ms, number) in zip(self._tags, self._position, strict=True):
            touched = self._keys.touched(tag)
            pipe.execute_command("XRANGE", touched, "-", "+", "COUNT", 1)
            pipe.execute_command("XRANGE", touched, f"({ms}-{number}", "+", "COUNT", ENTRIES)
        answers = await pipe.execute()
        touched_ids: list[set[bytes]] = [set() for _ in self._tags]
        reloaded = False
        for partition, (first, entries) in enumerate(zip(answers[::2], answers[1::2], strict=True)):
            if _fell_behind(first, self._position[partition]):
                await self._load(partition)
                reloaded = True
            elif entries:
                touched_ids[partition] = set(_ids(entries))
                self._position[partition] = _position(entries[-1])
        await self._read(touched_ids)
        return Poll(sum(map(len, touched_ids)), reloaded)

    def advance(self) -> None:
        """Show the collected changes to the next scoring."""
        pending, self._pending = self._pending, {}
        self.arrays.put(pending)

    async def _load(self, partition: int) -> None:
        """Collect one whole partition. The position is taken first: what changes meanwhile is read again by `poll`."""
        tag = self._tags[partition]
        last = await self._redis.execute_command("XREVRANGE", self._keys.touched(tag), "+", "-", "COUNT", 1)
        rows = await self._scan(self._keys.item_rows(tag))
        entries = await self._scan(self._keys.catalogue(tag))
        before = self._owned(partition) if self.arrays.ids else ()
        for item in {*rows, *entries, *before}:
            self._pending[item.decode()] = (rows.get(item), entries.get(item))
        self._position[partition] = _position(last[-1]) if last else (0, 0)

    def _owned(self, partition: int) -> Iterable[bytes]:
        """Items of this partition that we know already: a reload must forget those that are gone."""
        ids = (item_id.encode() for item_id in self.arrays.ids)
        return (item for item in ids if partition_of(item, len(self._tags)) == partition)

    async def _scan(self, key: bytes) -> dict[bytes, bytes]:
        """A whole hash, in calls short enough not to hold up the stream worker."""
        found: dict[bytes, bytes] = {}
        cursor = b"0"
        while True:
            cursor, part = await self._redis.execute_command("HSCAN", key, cursor, "COUNT", SCAN)
            found.update(part if isinstance(part, dict) else zip(part[::2], part[1::2], strict=True))
            if int(cursor) == 0:
                return found

    async def _read(self, touched: Sequence[set[bytes]]) -> None:
        """Collect the rows and entries of these items, by partition."""
        pipe = self._redis.pipeline(transaction=False)
        asked: list[list[bytes]] = []
        for tag, ids in zip(self._tags, touched, strict=True):
            if ids:
                asked.append(list(ids))
                pipe.execute_command("HMGET", self._keys.item_rows(tag), *asked[-1])
                pipe.execute_command("HMGET", self._keys.catalogue(tag), *asked[-1])
        answers = await pipe.execute() if asked else []
        for items, rows, entries in zip(asked, answers[::2], answers[1::2], strict=True):
            self._pending.update(zip((item.decode() for item in items), zip(rows, entries, strict=True), strict=True))


def _position(entry: Sequence[Any]) -> Position:
    ms, number = entry[0].split(b"-")
    return int(ms), int(number)


def _fell_behind(first: Sequence[Any], position: Position) -> bool:
    """Whether the stream lost entries after `position`, or is another stream than the one we followed.

    Its first entry lies above ours when everything up to ours was cut, perhaps more: then only a reload is safe.
    """
    if not first:
        return position != (0, 0)
    return _position(first[0]) > position


def _ids(entries: Sequence[Any]) -> Iterable[bytes]:
    for _, fields in entries:
        values = fields.values() if isinstance(fields, dict) else fields[1::2]
        for value in values:
            yield from (item_id.encode() for item_id in orjson.loads(value))
