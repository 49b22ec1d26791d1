"""The fold equals the slow oracle on any set of events, in any order and any grouping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.events import decode_run
from schemas.topics import KINDS
from streams.features.calendar import Calendar
from streams.features.columns import Columns, Encoder
from streams.features.declaration import DEFAULT
from streams.features.fold import fold_users
from streams.features.items import ItemEvents, ItemLayout, fold_items
from streams.features.rows import Layout, Rows, RowSlab
from streams.testing import oracle

NOW_MS = 1_775_000_000_000
DAY_MS = 86_400_000
ZONE = "Asia/Kathmandu"
ALL_KINDS = frozenset().union(*KINDS.values())
Wire = dict[str, Any]


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None


def decoded(events: Sequence[Wire]) -> tuple[list[str], list[str], Columns]:
    records = [Record(str(e["user_id"]).encode(), orjson.dumps(e)) for e in events]
    run = decode_run(records, kinds=ALL_KINDS, now_ms=NOW_MS, max_skew_ms=0, horizon_ms=4000 * DAY_MS)
    assert not run.rejects
    columns = Encoder(DEFAULT, Calendar(ZONE)).encode(run)
    return [e.user_id for e in run.events], [e.item_id for e in run.events], columns


def folded_users(runs: Sequence[Sequence[Wire]]) -> dict[str, np.void]:
    layout = Layout(DEFAULT)
    slab = RowSlab(layout, capacity=1)
    for events in runs:
        users, _, columns = decoded(events)
        slots = slab.slots_or_add(users)
        fold_users(layout, slab.rows, slots, columns)
    return {user: slab.rows[slot] for user, slot in slab.slot_of.items()}


def folded_items(runs: Sequence[Sequence[Wire]]) -> dict[str, np.void]:
    layout = ItemLayout(DEFAULT)
    slot_of: dict[str, int] = {}
    rows: Rows = layout.empty(1000)
    columns_of_profile = [DEFAULT.scene_names.index(name) for name in DEFAULT.profile_names]
    for events in runs:
        _, items, columns = decoded(events)
        slots = np.array([slot_of.setdefault(item, len(slot_of)) for item in items], np.int64)
        fold_items(layout, rows, slots, ItemEvents(columns.ts_ms, columns.kind, columns.codes[:, columns_of_profile]))
    return {item: rows[slot] for item, slot in slot_of.items() if rows[slot]["schema"]}


def wire_events() -> st.SearchStrategy[Wire]:
    times = st.one_of(
        st.integers(NOW_MS - 90 * DAY_MS, NOW_MS),
        st.integers(NOW_MS - 3_600_000, NOW_MS),
        st.sampled_from([NOW_MS, NOW_MS - 1, NOW_MS - 25_000, NOW_MS - 300_000, NOW_MS - 30 * DAY_MS]),
    )
    scene = st.fixed_dictionaries(
        {},
        optional={
            "device": st.sampled_from(["phone", "Tablet ", "desktop", "fridge", ""]),
            "os": st.sampled_from(["ios", "android", "beos"]),
            "network": st.sampled_from(["wifi", "cellular"]),
            "region": st.sampled_from(["BR", "BR-SP", "GB", "cn", "ZZ", "US_CA", "B", "USA", "-"]),
            "zone": st.sampled_from(["America/Sao_Paulo", "Asia/Shanghai", "Australia/Lord_Howe", "Mars/Olympus"]),
            "locale": st.sampled_from(["pt-BR", "zh_CN", "en", "zh-Hant-TW"]),
            "weather": st.sampled_from(["rain", "clear", "frogs"]),
            "temperature_c": st.integers(-600, 600).map(lambda tenths: tenths / 10),
            "place": st.sampled_from(["home", "moon"]),
            "lat": st.floats(-80, 80),
            "lon": st.floats(-179, 179),
        },
    )
    required = {
        "user_id": st.sampled_from(["ann", "bob", "乙", "-8845298781299428018"]),
        "item_id": st.sampled_from([f"i{n}" for n in range(6)] + ["-"]),
        "kind": st.sampled_from(sorted(ALL_KINDS)),
        "ts_ms": times,
    }
    optional = {
        "price": st.floats(0, 1e5),
        "dwell_ms": st.integers(0, 10_000_000),
        "page": st.sampled_from(["item", "push", "elsewhere"]),
        "scene": st.one_of(st.none(), scene),
    }
    return st.fixed_dictionaries(required, optional=optional)


def assert_equal(expected: dict[str, dict[str, Any]], rows: dict[str, np.void]) -> None:
    assert expected.keys() == rows.keys()
    assert {name: differs for name in expected if (differs := oracle.difference(expected[name], rows[name]))} == {}


@st.composite
def grouped(draw: st.DrawFn) -> list[list[Wire]]:
    """Random events cut into runs of random length, in random order."""
    events = draw(st.lists(wire_events(), min_size=1, max_size=60))
    cuts = sorted(draw(st.sets(st.integers(1, len(events)), max_size=6)) | {len(events)})
    return [events[a:b] for a, b in zip([0, *cuts], cuts, strict=False)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(grouped())
def test_user_rows_equal_the_oracle(runs: list[list[Wire]]) -> None:
    events = [event for run in runs for event in run]
    assert_equal(oracle.user_rows(events, ZONE), folded_users(runs))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(grouped())
def test_item_rows_equal_the_oracle(runs: list[list[Wire]]) -> None:
    events = [event for run in runs for event in run]
    assert_equal(oracle.item_rows(events, ZONE), folded_items(runs))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(grouped(), st.randoms(use_true_random=False))
def test_rows_are_bytes_of_the_set_of_events_not_of_their_order(runs: list[list[Wire]], random: Any) -> None:
    events = [event for run in runs for event in run]
    shuffled = list(events)
    random.shuffle(shuffled)
    for fold in (folded_users, folded_items):
        one, other = fold(runs), fold([shuffled])
        assert {name: row.tobytes() for name, row in one.items()} == {
            name: row.tobytes() for name, row in other.items()
        }


def many(n: int, seed: int, users: int) -> list[Wire]:
    """A crowd with long histories, saturating hours and late events."""
    rng = np.random.default_rng(seed)
    kinds = sorted(ALL_KINDS)
    last = NOW_MS - rng.integers(0, 40 * DAY_MS, n)
    return [
        {
            "user_id": f"u{rng.integers(users)}",
            "item_id": f"i{rng.integers(40)}",
            "kind": kinds[rng.integers(len(kinds))],
            "ts_ms": int(last[i]) if rng.random() < 0.9 else NOW_MS - int(rng.integers(0, 60_000)),
            "dwell_ms": int(rng.integers(0, 90_000)),
            "price": float(rng.integers(0, 10_000)) / 100,
            "page": "item",
            "scene": {"device": ["phone", "desktop"][rng.integers(2)], "weather": "rain", "zone": "Asia/Shanghai"},
        }
        for i in range(n)
    ]


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("run_length", [1, 97, 6000])
def test_long_histories_equal_the_oracle_whatever_the_order_and_the_run_length(in_order: bool, run_length: int) -> None:
    events = many(1500 if run_length == 1 else 6000, seed=run_length, users=7)
    if in_order:
        events.sort(key=lambda event: int(event["ts_ms"]))
    runs = [events[i : i + run_length] for i in range(0, len(events), run_length)]
    assert_equal(oracle.user_rows(events, ZONE), folded_users(runs))
    assert_equal(oracle.item_rows(events, ZONE), folded_items(runs))


def test_counts_stop_at_their_ceilings_instead_of_turning_over() -> None:
    events = [
        {"user_id": "ann", "item_id": "a", "kind": "click", "ts_ms": NOW_MS - i % 3, "dwell_ms": 5} for i in range(700)
    ]
    rows = folded_users([events[:300], events[300:]])
    assert_equal(oracle.user_rows(events, ZONE), rows)
    assert rows["ann"]["windows"].max() == 255
    assert rows["ann"]["totals"][0] == 700


def test_the_oracle_notices_a_single_lost_or_doubled_event() -> None:
    events = many(300, seed=1, users=3)
    rows = folded_users([events])
    for wrong in (events[1:], [*events, events[0]]):
        expected = oracle.user_rows(wrong, ZONE)
        assert any(oracle.difference(expected[user], rows[user]) for user in rows)
