"""Who was erased: what is left out of a fold, what still counts, and what the plan and the page of it say."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from schemas.deltas import unpack_deltas
from schemas.keys import Keys
from schemas.topics import Topics
from streams.features.columns import Encoder
from streams.features.declaration import DEFAULT
from streams.operations.collecting import SECTIONS
from streams.operations.erase import page, span
from streams.operations.erasing import FOR_EVER_MS, Traces
from streams.operations.export import anything
from streams.operations.people import Kept, Place, topics_of
from streams.pipeline import Pipeline
from streams.tables.look import Looked
from streams.tables.memory import MemoryStore
from streams.tables.store import Erasure
from streams.tables.users import UserTable, together
from tests.chunked import (
    LAYOUT,
    NOW_MS,
    PARTITION,
    TOPICS,
    USERS,
    Raw,
    change,
    chunks,
    event,
    facts,
    process_one,
    records,
    truth,
)

TIMES = st.integers(NOW_MS - 4_000_000, NOW_MS)


@given(st.dictionaries(st.sampled_from(USERS), TIMES), st.integers(0, 3))
def test_exactly_the_events_up_to_an_erasure_are_left_out(erased: dict[str, int], seed: int) -> None:
    log = records(TOPICS.clicks, 120, seed=seed)
    whole = change(log)
    left = whole.without(erased)
    told = [(r, orjson.loads(r.value or b"")) for r in log]
    wanted = [r.offset for r, said in told if said["ts_ms"] > erased.get(said["user_id"], -1)]
    assert left.offsets.tolist() == wanted
    assert left.erased == 120 - len(wanted)
    assert len(left.users) == left.columns.size == len(wanted)
    assert together([left, whole]).erased == left.erased


def test_a_change_without_an_erased_user_is_the_same_object() -> None:
    whole = change(records(TOPICS.clicks, 20))
    assert whole.without({"nobody": NOW_MS}) is whole


class _Sink:
    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def send(self, sent: Any) -> None:
        self.sent += sent


async def test_a_pipeline_counts_what_it_leaves_out_and_item_deltas_leave_all_the_same() -> None:
    store, keys, deltas = MemoryStore(), Keys("unit"), _Sink()
    table = UserTable(store, keys, LAYOUT, writer="a")
    pipeline = Pipeline(table, Encoder(DEFAULT), TOPICS, _Sink(), deltas, item_partitions=1, now_ms=lambda: NOW_MS)
    await table.initialise(facts(TOPICS.clicks))
    tag, gone = keys.user_tag(PARTITION), USERS[0]
    first, second = chunks(
        TOPICS.clicks, [_click(i, user) for i, user in enumerate((gone, USERS[1], gone, USERS[1]))], 2
    )
    await process_one(pipeline, first)
    store.tag(tag).pushes[gone.encode()] = b"[]"
    removed = await store.erase(tag, Erasure(gone.encode(), NOW_MS, b"new", store.tag(tag).users[gone.encode()]))
    assert removed is not None
    assert removed.pushes
    await process_one(pipeline, second)
    assert dict(pipeline.stats.results) == {"erased": 1}
    assert table.stats.conflicts == 1
    assert store.tag(tag).users == truth([_click(1, USERS[1]), _click(3, USERS[1])])
    assert sum(len(unpack_deltas(record.value)[0]) for record in deltas.sent) == 4


def _click(offset: int, user: str) -> Raw:
    return Raw(offset, user.encode(), event(user))


def test_the_topics_of_a_person_are_those_with_a_user_in_them() -> None:
    named = topics_of(Topics("shop."), ["next"])
    assert list(named) == [
        "shop.events.clicks.v1",
        "shop.events.browses.v1",
        "shop.events.orders.v1",
        "shop.events.feedback.v1",
        "shop.recommendations.v1",
        "shop.decisions.v1",
        "shop.events.dead-letters.v1",
        "shop.recommendations.shadow.next.v1",
        "shop.decisions.shadow.next.v1",
    ]
    assert set(named.values()) == set(SECTIONS)


def test_how_long_a_topic_keeps_records() -> None:
    assert [span(ms) for ms in (None, 90 * 86_400_000, 3_600_000)] == [
        "ever: shorten retention.ms, or they never go",
        "90 days",
        "3600 s",
    ]


def _said(*found: Traces, user: str = "u[b]1", silent: str = "") -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(page(user, found, [Kept("events.clicks.v1", "events", 4, None)], silent))
    return console.export_text()


def test_the_plan_tells_of_a_lease_a_tombstone_and_a_namespace_that_is_none() -> None:
    here, there = Place("main", ("live", "serving"), 4), Place("next", ("run",), None)
    seen = Looked(1, b"x" * 400, {}, None, 8.0, [{"item": "i1"}], FOR_EVER_MS)
    said = _said(Traces(here, seen), Traces(there, None))
    assert "All that Redis keeps of user u[b]1 goes:" in said
    assert "live, serving 400 bytes 1 pushes · yes for ever" in " ".join(said.split())
    assert "not initialised" in said
    assert "a candidate that is on its way to Kafka may still arrive" in said
    assert "ever: shorten retention.ms" in said
    before = _said(Traces(here, Looked(1, None, {}, None, None, [], NOW_MS)), silent="How long is not known.")
    assert "User u[b]1 was erased before, and nothing has come since" in before
    assert "2027-01-15 08:00:00" in before
    assert "How long is not known." in before
    assert "Nothing is known of user u[b]1." in _said(Traces(here, Looked(1, None, {}, None, None, [])))


def test_a_document_holds_something_when_only_a_tombstone_or_a_decision_is_kept() -> None:
    nothing: dict[str, Any] = {"row": None, "rescore": None, "pushes": [], "shadow_pushes": [], "erased_ms": None}
    document: dict[str, Any] = {"namespaces": [nothing], **{section: [] for section in SECTIONS.values()}}
    assert not anything(document)
    assert anything({**document, "namespaces": [{**nothing, "erased_ms": NOW_MS}]})
    assert anything({**document, "namespaces": [{**nothing, "shadow_pushes": [{}]}]})
    assert anything({**document, "decisions": [{}]})


def test_tombstones_laid_from_elsewhere_only_move_on() -> None:
    import asyncio

    store = MemoryStore()
    asyncio.run(store.keep_away(b"t", b"v1", {b"u": 5, b"w": 5}))
    asyncio.run(store.keep_away(b"t", b"v2", {b"u": 4}))
    meta, erased = asyncio.run(store.standing(b"t"))
    assert (meta[b"ver"], erased) == (b"v1", {b"u": 5, b"w": 5})
    assert np.array(list(erased.values())).max() == 5
