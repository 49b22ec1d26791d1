"""The catalogue: the last word on an item counts, a null value removes it, bad entries are named."""

from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.faults import Reason
from schemas.items import Item, decode_item, decode_items, encode_item
from schemas.partition import partition_of

SECONDS = 1_760_000_000


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None


def entry(item: Any = "i1", **fields: Any) -> Record:
    return Record(str(item).encode(), orjson.dumps({"item_id": item, **fields}))


def test_the_last_word_on_an_item_counts() -> None:
    run = decode_items([entry(price=1), entry("i2"), entry(price=2), Record(b"i2", None)])
    assert run.latest == {"i1": Item(item_id="i1", price=2.0), "i2": None}
    assert run.rejects == []


def test_an_item_that_comes_back_after_its_removal_is_there() -> None:
    assert decode_items([Record(b"i1", None), entry(title="x")]).latest["i1"] == Item(item_id="i1", title="x")


def test_every_field_arrives_and_survives_redis() -> None:
    fields = {
        "title": "红鞋", "category": "shoes", "brand": "b", "price": 19.5, "currency": "CNY", "image": "http://x/i.png",
        "url": "app://i1", "tags": ["red", "鞋"], "lang": "zh", "in_stock": False, "ts_ms": SECONDS * 1000,
    }  # fmt: skip
    item = decode_items([entry(-5, **fields, unknown=1)]).latest["-5"]
    assert item is not None
    assert {name: getattr(item, name) for name in fields} == fields
    assert decode_item(encode_item(item)) == item


def test_times_follow_the_rule_of_events() -> None:
    item = decode_items([entry(ts_ms=SECONDS)]).latest["i1"]
    assert item is not None
    assert item.ts_ms == SECONDS * 1000


BAD: list[tuple[Record, Reason]] = [
    (Record(None, b"{}"), "null key"),
    (Record(None, None), "null key"),
    (Record(b"i1", b""), "null value"),
    (Record(b"", None), "id"),
    (Record(b"\xff", None), "utf-8"),
    (Record(b"a\nb", None), "id"),
    (Record(b"k" * 300, None), "id"),
    (Record(b"i1", b"x" * 900_000), "too large"),
    (Record(b"i1", b"{"), "json"),
    (Record(b"i1", b"[" * 100_000), "shape"),
    (Record(b"i1", b"{}"), "missing"),
    (entry(price=-1), "number"),
    (entry(price=True), "number"),
    (entry(ts_ms=12), "time"),
    (entry(tags="red"), "shape"),
    (entry(in_stock="yes"), "shape"),
    (Record(b"i2", entry().value), "key mismatch"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_a_bad_entry_is_named_and_its_neighbours_survive(number: int) -> None:
    record, reason = BAD[number]
    run = decode_items([entry("a"), record, entry("b")])
    assert list(run.latest) == ["a", "b"]
    assert [(reject.index, reject.reason) for reject in run.rejects] == [(1, reason)]
    assert run.rejects[0].detail.endswith(".")


def test_an_entry_in_the_wrong_partition_is_named() -> None:
    wrong = 1 - partition_of(b"i1", 2)
    assert [reject.reason for reject in decode_items([entry()], home=(wrong, 2)).rejects] == ["partition"]
    assert decode_items([entry()], home=(1 - wrong, 2)).rejects == []


@settings(deadline=None)
@given(st.lists(st.tuples(st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=60)), max_size=6))
def test_no_bytes_make_decoding_fail(pairs: list[tuple[bytes | None, bytes | None]]) -> None:
    run = decode_items([Record(*pair) for pair in pairs])
    assert len(run.latest) + len(run.rejects) <= len(pairs)
