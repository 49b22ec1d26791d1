"""What rules and ranker are told of users: push logs, purchases, nights and scenes as columns."""

from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest

from model_server.facts import Person, item_facts, people, scene_now
from model_server.items import ItemArrays
from model_server.policy.pushes import Log, Push, columns, encode
from model_server.policy.settings import DAY_MS, PolicySettings
from model_server.scoring import Scored
from schemas.events import decode_run
from schemas.items import Item, encode_item
from streams.features.calendar import HOLIDAY_DAY, Calendar
from streams.features.columns import Encoder, item_code
from streams.features.declaration import DEFAULT
from streams.features.fold import fold_users
from streams.features.items import ItemLayout
from streams.features.rows import Layout, RowSlab, SchemaMismatchError
from streams.features.view import user_view

T = 1_797_854_400_000  # 2026-12-21 12:00 UTC
HOUR_MS = 3_600_000
LAYOUT = Layout(DEFAULT)
PURCHASE = DEFAULT.code("purchase")
SETTINGS = PolicySettings(quiet_hours="22:00-08:00")


class Record(NamedTuple):
    key: bytes
    value: bytes


def row(*events: dict[str, Any]) -> bytes:
    """The stored row of one user after these events."""
    records = [
        Record(b"u", orjson.dumps({"user_id": "u", "item_id": "i", "kind": "click", "ts_ms": T, **event}))
        for event in events
    ]
    kinds = frozenset(kind.wire for kind in DEFAULT.kinds)
    run = decode_run(records, kinds=kinds, now_ms=T, max_skew_ms=0, horizon_ms=400 * DAY_MS)
    assert not run.rejects
    slab = RowSlab(LAYOUT)
    slots = slab.slots_or_add(["u"])
    fold_users(LAYOUT, slab.rows, np.repeat(slots, len(events)), Encoder(DEFAULT).encode(run))
    return bytes(LAYOUT.pack(slab.rows[slots])[0])


def push(item: str, *, sent_ms: int = T - HOUR_MS, dedup: str = "d") -> Push:
    return Push(item, item_code(item), sent_ms, sent_ms + 6 * HOUR_MS, dedup, "c", 0)


def looked_at(*stored: tuple[bytes | None, Log], settings: PolicySettings = SETTINGS) -> list[Person]:
    blobs = [(blob, encode(log) if log else None) for blob, log in stored]
    return people(LAYOUT, blobs, [T] * len(blobs), T, "UTC", settings)


def scored(*items: list[int]) -> Scored:
    item = np.array(items, np.int32)
    some = np.full(item.shape, 0.5, np.float32)
    grade, why = np.ones(item.shape, np.uint8), item.astype(np.uint32)
    return Scored(item, some, some, some, some, some, some, grade, some, some, why, ("x",), 0, 0, 0)


def test_pushes_of_the_last_day_are_counted() -> None:
    log = (push("a", sent_ms=T - DAY_MS), push("b", sent_ms=T - DAY_MS + 1), push("c", sent_ms=T - 1))
    first, second = looked_at((row({}), log), (row({}), ()))
    assert (first.pushed_day, second.pushed_day) == (2, 0)
    assert first.admission.ending is not None
    assert first.admission.ending.steps[-1].rule == "minimum_gap"
    assert second.admission.ending is None


def test_each_user_has_its_own_night_and_the_default_zone_serves_the_others() -> None:
    asleep = row({"scene": {"zone": "Pacific/Auckland"}})
    first, second, third = looked_at((asleep, ()), (row({"scene": {"zone": "Europe/Paris"}}), ()), (None, ()))
    assert [person.zone for person in (first, second, third)] == ["Pacific/Auckland", "Europe/Paris", "UTC"]
    assert first.admission.ending is not None
    assert first.night.until_ms == T + 7 * HOUR_MS
    assert (second.night.until_ms, second.night.next_ms) == (0, T + 9 * HOUR_MS)


def test_an_opt_out_takes_every_open_push_back_and_ends_the_user() -> None:
    (person,) = looked_at((row({}, {"kind": "opted-out"}), (push("a", dedup="1"), push("b", dedup="2"))))
    assert [(taken.push.dedup_key, taken.rule) for taken in person.retractions] == [
        ("1", "opted_out"),
        ("2", "opted_out"),
    ]
    assert person.admission.ending is not None


def test_a_purchase_takes_the_push_of_its_item_back() -> None:
    bought = row({}, {"kind": "purchase", "item_id": "a"}, {"kind": "click", "item_id": "b"})
    (person,) = looked_at((bought, (push("a", dedup="1"), push("b", dedup="2"))))
    assert [taken.push.dedup_key for taken in person.retractions] == ["1"]


def test_a_row_of_another_declaration_is_refused_with_the_remedy() -> None:
    blob = bytearray(row({}))
    blob[0] ^= 1
    with pytest.raises(SchemaMismatchError, match="rebuild"):
        looked_at((bytes(blob), ()))


def test_what_was_bought_or_pushed_is_told_with_its_latest_time() -> None:
    items = ItemArrays(ItemLayout(DEFAULT))
    items.put({name: (None, encode_item(Item(name, in_stock=name != "c"))) for name in ("a", "b", "c")})
    buyer = row(
        {"kind": "purchase", "item_id": "a", "ts_ms": T - 9_000_000},
        {"kind": "purchase", "item_id": "a", "ts_ms": T - 7_000_000},
        {"kind": "click", "item_id": "b", "ts_ms": T - 5_000_000},
    )
    view = user_view(LAYOUT, LAYOUT.unpack([buyer, None]), T)
    pushes = columns([(push("b", sent_ms=T - 8_000), push("b", sent_ms=T - 4_000)), ()])
    facts = item_facts(scored([0, 1, 2, -1], [0, 1, -1, -1]), items, view, pushes, T, PURCHASE)
    assert facts.present.tolist() == [[True, True, True, False], [True, True, False, False]]
    assert facts.in_stock.tolist() == [[True, True, False, False], [True, True, False, False]]
    assert facts.bought_ms.tolist() == [[T - 7_000_000, 0, 0, 0], [0, 0, 0, 0]]
    assert facts.pushed_ms.tolist() == [[0, T - 4_000, 0, 0], [0, 0, 0, 0]]


def test_a_shop_without_items_has_no_candidates() -> None:
    view = user_view(LAYOUT, LAYOUT.unpack([None]), T)
    facts = item_facts(scored([-1]), ItemArrays(ItemLayout(DEFAULT)), view, columns([()]), T, PURCHASE)
    assert (facts.present.tolist(), facts.bought_ms.tolist()) == ([[False]], [[0]])


def test_the_scene_of_now_keeps_the_place_and_takes_the_hour_there() -> None:
    christmas_ms = T + 4 * DAY_MS
    tokyo = row({"scene": {"zone": "Asia/Tokyo", "locale": "en-US", "device": "phone"}})
    view = user_view(LAYOUT, LAYOUT.unpack([tokyo, None]), christmas_ms)
    scene = scene_now(DEFAULT, Calendar("UTC"), view, christmas_ms)
    names = DEFAULT.scene_names
    assert scene[:, names.index("device")].tolist() == [1, 0]
    assert scene[:, names.index("hour")].tolist() == [21 + 1, 12 + 1]
    assert scene[:, names.index("weekday")].tolist() == [5, 5]
    assert scene[:, names.index("holiday")].tolist() == [HOLIDAY_DAY, 0]
