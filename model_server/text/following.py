"""Reads the titles of the items at hand beside the scoring: what Redis or the disk has at once, the rest in turns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from model_server.text.back_end import keys_of
from streams.service.trouble import TROUBLE, clause

if TYPE_CHECKING:
    from model_server.items import ItemStore
    from model_server.retrieval.pairs import F32, I64
    from model_server.scoring import U64, RankerSource
    from model_server.text.library import Library
    from model_server.text.shelf import Shelf

log = logging.getLogger(__name__)

AT_ONCE = 512
"""Titles looked up in one round trip."""
TURN = 32
"""Titles read by the back end before the others get the processor back, for as long again."""
EVERY_S = 0.25


class TitleReader:
    """Vectors of titles from Redis, from disk, or from the back end, where nobody else is at it."""

    def __init__(self, library: Library, shelf: Shelf) -> None:
        self._library, self._shelf = library, shelf

    async def read(self, titles: Sequence[str]) -> AsyncIterator[tuple[I64, F32]]:
        """(places, raw vectors) as they are known; places that never come are being read by another worker.

        Raises TextError and RedisError.
        """
        keys = keys_of(titles)
        nothing = np.flatnonzero(keys == 0)
        if len(nothing):
            yield nothing, self._library.vectors([""] * len(nothing))
        distinct, place = np.unique(keys, return_inverse=True)
        first = np.unique(place, return_index=True)[1]
        asked = np.flatnonzero(distinct != 0)
        found = await self._shelf.get(distinct[asked])
        there = asked[found.there]
        if len(there):
            yield _spread(place, there, found.vectors[found.there])
        ours = asked[found.ours]
        for start in range(0, len(ours), TURN):
            some = ours[start : start + TURN]
            vectors = await self._turn(distinct[some], [titles[at] for at in first[some].tolist()])
            yield _spread(place, some, vectors)

    async def _turn(self, keys: U64, titles: Sequence[str]) -> F32:
        began = perf_counter()
        vectors = await asyncio.to_thread(self._library.vectors, titles)
        await self._shelf.put(keys, vectors)
        await asyncio.sleep(perf_counter() - began)
        return vectors


def _spread(place: I64, distinct: I64, vectors: F32) -> tuple[I64, F32]:
    """(every place of these distinct titles, its vector)."""
    at = np.searchsorted(distinct, place)
    at[at == len(distinct)] = 0
    places = np.flatnonzero(distinct[at] == place)
    return places, vectors[at[places]]


async def follow_titles(
    rankers: RankerSource,
    items: ItemStore,
    reader_of: Callable[[str], TitleReader],
    waiting: Callable[[int], object] = lambda _: None,
    every_s: float = EVERY_S,
) -> None:
    """Keep the vectors of the ranker in force up to date with the items, for ever; `waiting` hears how many are not.

    Where titles cannot be read that is said, and the vectors stay as they are.
    """
    readers: dict[str, TitleReader] = {}
    told = ""
    while True:
        try:
            busy = await read_some(rankers, items, readers, reader_of)
            told = ""
        except (ValueError, ImportError, RuntimeError, *TROUBLE) as error:
            busy, why = False, clause(error)
            if why != told:
                log.warning("Titles wait to be read: %s", why)
                told = why
        titles = rankers.titles()
        waiting(0 if titles is None else titles.waiting)
        if not busy:
            await asyncio.sleep(every_s)


async def read_some(
    rankers: RankerSource,
    items: ItemStore,
    readers: dict[str, TitleReader],
    reader_of: Callable[[str], TitleReader],
) -> bool:
    """Read what waits, `AT_ONCE` titles at most; whether any of them was read."""
    titles = rankers.titles()
    if titles is None:
        return False
    name, arrays = titles.projection.back_end, items.arrays
    reader = readers.get(name) or readers.setdefault(name, reader_of(name))
    index = titles.wanted(arrays, AT_ONCE)
    left = dict.fromkeys(range(len(index)))
    try:
        async for places, raw in reader.read([arrays.titles[at] for at in index]):
            titles.tell(arrays, [index[at] for at in places.tolist()], raw)
            for at in places.tolist():
                del left[at]
    finally:
        titles.again([index[at] for at in left])
    return len(left) < len(index)
