"""Numbered candidates: what is known of a candidate is found by table, as a slow reader would find it by search."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model_server.counters.numbered import Numbered
from model_server.retrieval.pairs import Pairs

WIDTH = 9
COLUMNS = st.lists(st.lists(st.integers(-1, WIDTH - 1), min_size=5, max_size=5), min_size=1, max_size=4)
KNOWN = st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, WIDTH - 1)), st.integers(1, 99), max_size=30)


@given(COLUMNS)
def test_every_candidate_has_the_number_of_its_item_and_padding_the_one_past_them(rows: list[list[int]]) -> None:
    numbered = Numbered.of(np.array(rows, np.int32), WIDTH)
    items = sorted({item for row in rows for item in row if item >= 0})
    assert numbered.distinct.tolist() == items
    assert numbered.number.tolist() == [[items.index(i) if i >= 0 else len(items) for i in row] for row in rows]
    squares = np.arange(WIDTH) ** 2
    assert numbered.each(squares, -5).tolist() == [[i * i if i >= 0 else -5 for i in row] for row in rows]


@given(COLUMNS, KNOWN)
def test_pairs_are_found_where_their_user_has_the_item(
    rows: list[list[int]], known: dict[tuple[int, int], int]
) -> None:
    keys = sorted(key for key in known if key[0] < len(rows))
    user, column = np.array(keys, np.int64).reshape(-1, 2).T
    place, pair = Numbered.of(np.array(rows, np.int32), WIDTH).look_up(Pairs(user, column, {}))
    found = np.zeros(np.shape(rows), int)
    found.reshape(-1)[place] = [known[keys[at]] for at in pair.tolist()]
    assert found.tolist() == [[known.get((b, item), 0) for item in row] for b, row in enumerate(rows)]
