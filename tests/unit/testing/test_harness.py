"""The harness: what is published comes out as rows, queue, letters and deltas, at the time that the clock says."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.deltas import DeltaSource
from schemas.partition import partition_of
from streams.features.declaration import DEFAULT, DeclarationError
from streams.pipeline import Limits
from streams.tables.errors import OtherDeclaration
from streams.tables.memory import MemoryStore
from streams.testing import Harness, Message, click, event, feedback, item, no_item, poison, purchase, wrong_rows

FEATURES = """
[windows]
"2h" = "2h"
"30d" = false

[kinds.favourite]
topic = "clicks"
window = true
history = true
active = true
item = true
priority = 1

[scene.place]
values = ["home", "gym"]
buckets = 4

[scene.os]
profile = false
"""


@pytest.fixture
def kairos() -> Harness:
    return Harness()


def test_a_user_is_read_in_words_of_the_declaration(kairos: Harness) -> None:
    kairos.publish(item("i1", title="Red shoes"))
    kairos.play(
        click("ann", "i1", at="+0s", device="phone", zone="Asia/Tokyo"),
        purchase("ann", "i1", at="+10min", price=9.5),
        click("ann", "i2", at="+70min"),
    )
    ann = kairos.user("ann")
    assert ann is not None
    assert ann.windows["click"] == {"5min": 1, "1h": 1, "24h": 2, "7d": 2, "30d": 2}
    assert ann.totals["purchase"] == 1
    assert ann.session == {"start_ms": kairos.clock.now_ms, "last_ms": kairos.clock.now_ms, "events": 1, "open": True}
    assert [(entry["kind"], entry["item"], entry["title"]) for entry in ann.history] == [
        ("click", "i2", ""),
        ("purchase", "i1", "Red shoes"),
        ("click", "i1", "Red shoes"),
    ]
    assert ann.scene == {"device": "phone"}
    assert ann.facts["zone"] == "Asia/Tokyo"
    assert ann.view.in_session.tolist() == [True]
    assert kairos.user("bob") is None


def test_windows_fade_as_the_clock_moves(kairos: Harness) -> None:
    kairos.play(click("ann", "i1", at="+0s"))
    kairos.advance("2h")
    ann = kairos.user("ann")
    assert ann is not None
    assert ann.windows["click"] == {"5min": 0, "1h": 0, "24h": 1, "7d": 1, "30d": 1}
    assert not ann.session["open"]


def test_an_item_has_its_counts_its_profiles_and_its_entry(kairos: Harness) -> None:
    kairos.publish(item("i1", title="Red shoes", price=9.5), item("i2"))
    kairos.play(click("ann", "i1", at="+0s", device="phone"), click("bob", "i1", device="phone"))
    shoes = kairos.item("i1")
    assert shoes is not None
    assert shoes.entry is not None
    assert (shoes.entry.title, shoes.totals["click"], shoes.windows["click"]["5min"]) == ("Red shoes", 2, 2)
    assert shoes.profiles["device"] == {"phone": 2.0}
    assert shoes.profiles["hour"] == {"9": 2.0}
    assert shoes.profiles["weekday"] == {"Mon": 2.0}
    kairos.publish(no_item("i2"))
    kairos.run()
    assert kairos.item("i2") is None


def test_the_queue_is_in_order_of_deadline(kairos: Harness) -> None:
    kairos.publish(
        click("ann", "i1"), purchase("bob", "i1"), feedback("delivered", "cat"), click("old", "i1", at="-2h")
    )
    kairos.run()
    waits = [(who.user, who.deadline_ms - kairos.clock.now_ms, who.priority) for who in kairos.affected]
    assert waits == [("bob", 50, "urgent"), ("ann", 150, "click"), ("old", 60_000, "back-fill")]


def test_keys_find_their_partitions_and_deltas_their_items(kairos: Harness) -> None:
    kairos.publish(*[click(f"u{i}", f"i{i}") for i in range(40)])
    kairos.run()
    log, topic = kairos.log, kairos.topics.clicks
    found = {(p, r.key) for _, p, r in log.of(topic)}
    assert found == {(partition_of(f"u{i}".encode(), 4), f"u{i}".encode()) for i in range(40)}
    assert [record.offset for record in log.records(topic, 1)] == list(range(len(log.records(topic, 1))))
    assert {DeltaSource.of(record.headers).topic for record in kairos.deltas} == {topic}
    assert len(log.of(kairos.topics.deltas)) == len(kairos.deltas)
    assert {name for name in kairos.rows if name.startswith("item ")} == {f"item i{i}" for i in range(40)}


def test_poison_is_told_by_reason_and_what_is_out_of_time_is_counted(kairos: Harness) -> None:
    kairos.publish(*poison().values(), click("ann", "i1", at="+2h"), click("ann", "i1", at="-500d"))
    kairos.run()
    assert sum(map(len, kairos.letters_by_reason.values())) == len(poison())
    assert [letter.record.key for letter in kairos.letters_by_reason["key mismatch"]] == [b"p2"]
    assert kairos.left_out == {"future": 1, "expired": 1}
    assert kairos.rows == {}
    assert wrong_rows(kairos) == {}


def test_a_record_in_a_partition_of_its_own_choice_is_a_dead_letter(kairos: Harness) -> None:
    home = partition_of(b"ann", 4)
    raw = click("ann", "i1").message(kairos.declaration, kairos.topics, kairos.clock)
    kairos.publish(raw._replace(partition=(home + 1) % 4), Message(kairos.topics.items, b"i1", b"{"))
    kairos.run()
    assert set(kairos.letters_by_reason) == {"partition", "json"}


def test_a_shop_s_own_declaration_is_folded_and_judged(tmp_path: Path) -> None:
    path = tmp_path / "features.toml"
    path.write_text(FEATURES)
    kairos = Harness(path, zone="Asia/Kathmandu")
    kairos.play(
        event("favourite", "ann", "i1", at="+0s", place="gym", page="item", os="ios"),
        event("favourite", "ann", "i2", at="+90min", place="pool", region="BR-SP"),
        purchase("ann", "i2", at="+91min", price=3.25, temperature_c=21.5),
    )
    ann = kairos.user("ann")
    assert ann is not None
    assert ann.windows["favourite"] == {"5min": 1, "1h": 1, "2h": 2, "24h": 2, "7d": 2}
    assert ann.scene == {"temperature_c": "20"}
    assert wrong_rows(kairos) == {}
    path.write_text("history = 0")
    with pytest.raises(DeclarationError, match="history"):
        Harness(path)


def test_limits_and_partitions_are_those_asked_for() -> None:
    kairos = Harness(partitions=2, item_partitions=1, limits=Limits(max_skew_ms=0, max_value_bytes=200))
    kairos.publish(click("ann", "i1", at="+1s"), click("bob", "i1", query="x" * 200))
    kairos.run()
    assert kairos.left_out == {"future": 1}
    assert set(kairos.letters_by_reason) == {"too large"}


async def test_a_harness_runs_inside_an_event_loop_too(kairos: Harness) -> None:
    await asyncio.sleep(0)
    kairos.play(click("ann", "i1"))
    assert kairos.user("ann") is not None


def test_what_would_end_the_process_is_raised() -> None:
    store = MemoryStore()
    Harness(store=store).play(click("ann", "i1"))
    other = Harness(replace(DEFAULT, history=64), store=store)
    with pytest.raises(OtherDeclaration, match=r"features\.toml"):
        other.play(click("ann", "i1"), click("ann", "i2"))
