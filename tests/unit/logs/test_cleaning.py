"""A log comes to the same events, items and counts however it is cut into pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.logs.catalogue import KEPT, Catalogue
from streams.logs.cleaning import LogEvent
from streams.logs.columns import LogError, text_column
from streams.logs.logs import Reading, read_log
from streams.logs.mapping import Mapping, parse
from streams.logs.pieces import pieces
from streams.logs.twins import Twins

MAPPING = """
[time]
column = "at"
unit = "s"
[event]
user_id = "who"
item_id = "what"
price = "cost"
[[kind]]
kind = "click"
[item]
title = "title"
"""


def mapping() -> Mapping:
    return parse(MAPPING, "shop")


def read(path: Path, lines: int) -> tuple[list[LogEvent], object, object]:
    reading = Reading(path, mapping(), lines)
    events = [event for batch in reading.batches() for event in batch]
    return events, reading.cleaner.catalogue.items(), reading.cleaner.cleaning


ROWS = st.lists(
    st.fixed_dictionaries(
        {"at": st.integers(1_700_000_000, 1_700_000_003), "who": st.sampled_from(["u", "v", None])},
        optional={
            "what": st.sampled_from(["i", "j"]),
            "cost": st.sampled_from([1, 2.5, -1, None]),
            "title": st.sampled_from(["Tea", "茶", ""]),
        },
    ),
    max_size=12,
)
WHOLE = {"at": 1_700_000_000, "who": "u", "what": "i", "cost": 1, "title": "Tea"}


@settings(deadline=None, max_examples=25)
@given(rows=ROWS, lines=st.integers(1, 5))
def test_where_a_log_is_cut_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]], lines: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "log.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, [WHOLE, *rows])))
    assert read(path, lines) == read(path, 1_000)
    path = path.with_suffix(".csv")
    pd.DataFrame([WHOLE, *rows]).to_csv(path, index=False)
    assert read(path, lines) == read(path, 1_000)
    # A piece of Parquet in which no value is missing has whole numbers where another has objects.
    path = path.with_suffix(".parquet")
    pd.DataFrame([WHOLE, *rows]).to_parquet(path)
    assert read(path, lines) == read(path, 1_000)


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 9))
def test_twins_are_the_lines_that_came_before(values: list[int], size: int) -> None:
    twins, seen = Twins(), set[int]()
    for at in range(0, len(values), size):
        batch = values[at : at + size]
        expected = []
        for value in batch:
            expected.append(value in seen)
            seen.add(value)
        assert twins.among(np.array(batch, np.uint64)).tolist() == expected


def test_an_items_value_is_the_one_most_lines_agree_on_though_it_may_have_any_number() -> None:
    catalogue = Catalogue()
    for n in range(20 * KEPT):
        catalogue.add(["i", "i"], [2_000 - n, 2_000], [("price", [float(n), 7.0])])
    assert catalogue.items() == {"i": {"item_id": "i", "ts_ms": 2_000, "price": 7.0}}
    assert max(map(len, catalogue._values.values())) <= 2 * KEPT


def test_whole_numbers_beside_missing_ones_keep_their_digits(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    who = pd.array([2**60 + 1, None], "Int64")
    pd.DataFrame({"at": 1_700_000_000, "who": who, "what": "i", "cost": 1, "title": None}).to_parquet(path)
    (event,) = read_log(path, mapping()).events
    assert event.key == b"1152921504606846977"


def test_numbers_that_the_mapping_does_not_use_may_be_anything(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    frame = pd.DataFrame([{**WHOLE, "weight": weight} for weight in (2.0**60, np.inf, np.nan, np.inf)])
    frame.to_parquet(path)
    assert read_log(path, mapping()).cleaning.dropped == {"duplicate": 1}


def test_a_column_may_be_missing_from_a_piece_of_json_lines_but_not_from_all(tmp_path: Path) -> None:
    path, rare = tmp_path / "log.jsonl", {"at": 1_700_000_000, "who": "u", "what": "i"}
    path.write_bytes(orjson.dumps(rare) + b"\n" + orjson.dumps(WHOLE))
    events, items, _ = read(path, 1)
    assert len(events) == 2
    assert items == {"i": {"item_id": "i", "ts_ms": 1_700_000_000_000, "title": "Tea"}}
    path.write_bytes(orjson.dumps(rare) + b"\n" + orjson.dumps({**rare, "cost": 1}))
    with pytest.raises(LogError, match=r"log\.jsonl has no column 'title', which the mapping shop names"):
        read(path, 1)


def test_a_log_without_its_users_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("at,what,cost,title\n" + "1700000000,i,1,Tea\n" * 9 + "1,2,3,4,5,6\n")
    with pytest.raises(LogError, match="has no column 'who'"):
        list(Reading(path, mapping(), 4).batches())


def test_a_log_of_columns_without_lines_has_one_piece(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("at,who\n")
    pd.DataFrame({"at": [1], "who": ["u"]}).head(0).to_parquet(tmp_path / "log.parquet")
    for name in ("log.csv", "log.parquet"):
        (piece,) = pieces(tmp_path / name)
        assert (len(piece), piece.names) == (0, ("at", "who"))
    (tmp_path / "log.csv").write_text("at,who,what,cost,title\n")
    assert read_log(tmp_path / "log.csv", mapping()).cleaning.lines == 0


def test_a_missing_value_of_whatever_type_has_no_text() -> None:
    for values in (
        ["a", None],
        [1.5, float("nan")],
        pd.to_datetime(["2020-01-01", None]),
        pd.array([1, None], "Int64"),
    ):
        assert text_column(pd.Series(values))[1] is None
