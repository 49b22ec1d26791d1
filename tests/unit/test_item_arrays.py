"""The arrays of all items: they find what was put whatever the order, and grow without copying all rows every time."""

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server import items
from model_server.items import ItemArrays
from streams.features.columns import item_code
from streams.features.declaration import DEFAULT
from streams.features.items import ItemLayout

LAYOUT = ItemLayout(DEFAULT)


def entry(item_id: str, category: str) -> bytes:
    return orjson.dumps({"item_id": item_id, "category": category})


@given(st.lists(st.lists(st.integers(0, 60), max_size=20), max_size=8), st.integers(1, 200))
def test_every_item_is_found_where_it_was_put_and_nothing_else(puts: list[list[int]], codes: int) -> None:
    arrays, first = ItemArrays(LAYOUT), dict[str, int]()
    with pytest.MonkeyPatch.context() as patch:
        # Few codes, so that different items share one: the first of them is found.
        patch.setattr(items, "item_code", lambda item_id: int(item_id[1:]) % codes)
        for numbers in puts:
            names = [f"i{number}" for number in numbers]
            arrays.put({name: (None, entry(name, f"c{name}")) for name in names})
            for name in dict.fromkeys(names):
                first.setdefault(name, len(first))
    assert arrays.ids == list(first)
    expected: dict[int, int] = {}
    for name, index in first.items():
        expected.setdefault(int(name[1:]) % codes, index)
        assert arrays.index_of(name) == index
        assert arrays.categories[arrays.category[index]] == f"c{name}"
    asked = np.arange(codes + 1, dtype=np.uint64)
    assert arrays.find(asked).tolist() == [expected.get(code, -1) for code in range(codes + 1)]


def test_a_new_item_after_a_load_costs_no_copy_of_all_rows() -> None:
    arrays = ItemArrays(LAYOUT)
    arrays.put({f"i{number}": (None, None) for number in range(3_000)})
    sums = arrays._sums
    for number in range(1_000):
        arrays.put({f"n{number}": (None, entry(f"n{number}", "new"))})
    assert arrays._sums is sums
    assert arrays.find(np.array([item_code("n999"), item_code("gone")], np.uint64)).tolist() == [3_999, -1]
    assert np.isnan(arrays.price).all()
    assert arrays.in_stock.all()
