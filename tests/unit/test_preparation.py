"""What a ranker remembers of the items is forgotten when it meets another store, which numbers them otherwise."""

import numpy as np
import orjson

from model_server.items import ItemArrays
from model_server.preparation import Freshness, Preparation
from model_server.retrieval.neighbours import Neighbours
from streams.features.columns import item_code
from streams.features.declaration import DEFAULT
from streams.features.items import ItemEvents, ItemLayout, fold_items

T = 1_800_000_000_000
NAMES = ["a", "b", "c", "d"]


def store(names: list[str]) -> ItemArrays:
    """Items in this order; `a` was clicked by far the most, all of it on phones."""
    arrays = ItemArrays(ItemLayout(DEFAULT))
    rows = arrays.layout.empty(len(names))
    item = np.repeat(np.arange(len(names)), [9 if name == "a" else 1 for name in names])
    codes = np.ones((len(item), len(DEFAULT.profile_names)), np.uint8)
    events = ItemEvents(np.full(len(item), T), np.full(len(item), DEFAULT.code("click"), np.uint8), codes)
    fold_items(arrays.layout, rows, item, events)
    packed = [bytes(row) for row in arrays.layout.pack(rows)]
    arrays.put({n: (packed[at], orjson.dumps({"item_id": n, "category": n})) for at, n in enumerate(names)})
    return arrays


def test_trained_ids_are_looked_up_anew_in_another_store() -> None:
    words = np.sort(np.array([item_code("a"), item_code("c")], np.uint64))
    preparation = Preparation(DEFAULT, words, Neighbours.none())
    one, other = store(NAMES), store(NAMES[::-1])
    known = {name: int(preparation.known(one).word[one.index_of(name)]) for name in NAMES}
    assert sorted(known.values()) == [0, 0, 1, 2]
    assert {name: int(preparation.known(other).word[other.index_of(name)]) for name in NAMES} == known


def test_popularity_is_that_of_the_store_at_hand() -> None:
    freshness = Freshness(DEFAULT, refresh_ms=60_000)
    for arrays in (store(NAMES), store(NAMES[::-1])):
        shared = freshness.at(arrays, T)
        assert shared.window("30d")[0] == arrays.index_of("a")
        assert shared.field("device", 1)[0] == arrays.index_of("a")
