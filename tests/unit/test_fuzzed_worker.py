"""Whatever lies in a topic: no bytes end or stall a worker, each record ends as a row, a dead letter or left out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.deltas import DELTA, DeltaSource, pack_deltas
from schemas.topics import Topics
from streams.features.declaration import DEFAULT
from streams.testing import Harness, Message, click, wrong_rows
from streams.testing.times import START, Clock

PATIENT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
TOPICS, NOW_MS = Topics(), Clock(START).now_ms
KINDS = [*DEFAULT.code_of_wire, "wink"]

ids = st.sampled_from(["u1", "u2", "商品", "a b"]) | st.text(max_size=6) | st.integers(-(2**64), 2**64)
times = st.integers(NOW_MS - 10**9, NOW_MS) | st.integers() | st.floats() | st.none()
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=4), parts, max_size=3),
    max_leaves=5,
)
scenes = st.fixed_dictionaries({}, optional=dict.fromkeys(("device", "zone", "lat", "lon", "weather"), anything))
extras = {"price": anything, "dwell_ms": anything, "quantity": anything, "scene": scenes | anything, "page": anything}
events = st.fixed_dictionaries(
    {"user_id": ids, "item_id": ids, "kind": st.sampled_from(KINDS), "ts_ms": times}, optional=extras
)
entries = st.fixed_dictionaries(
    {"item_id": ids}, optional=dict.fromkeys(("title", "price", "tags", "in_stock", "ts_ms", "lang"), anything)
)
headers = st.lists(st.tuples(st.text(max_size=12), st.none() | st.binary(max_size=12)), max_size=3).map(tuple)


def written(message: dict[str, Any]) -> bytes:
    """As an encoder that knows no rules writes it, NaN and lone surrogates and all."""
    return json.dumps(message).encode()


def spoiled(value: bytes, at: int, byte: int, how: str) -> bytes:
    """One byte changed, added or the end cut off, or the prefix of a schema registry put before it."""
    at %= len(value) + 1
    return {
        "as it is": value,
        "changed": value[:at] + bytes([byte]) + value[at + 1 :],
        "added": value[:at] + bytes([byte]) + value[at:],
        "cut": value[:at],
        "prefixed": b"\0\0\0\0\7" + value,
        "half a prefix": b"\0" + value,
    }[how]


HOWS = st.sampled_from(["as it is", "as it is", "changed", "added", "cut", "prefixed", "half a prefix"])


@st.composite
def records(draw: st.DrawFn) -> Message:
    """A record for one of the topics that people write, more or less of the form that is asked for."""
    topic = draw(st.sampled_from([*TOPICS.user_inputs, TOPICS.items]))
    message = draw(entries if topic == TOPICS.items else events)
    value = spoiled(written(message), draw(st.integers(0, 400)), draw(st.integers(0, 255)), draw(HOWS))
    name = str(message["item_id" if topic == TOPICS.items else "user_id"])
    key = draw(st.just(name.encode("utf-8", "replace")) | st.none() | st.binary(max_size=8))
    return Message(topic, key, draw(st.just(value) | st.none() | st.binary(max_size=30)), headers=draw(headers))


def all_applied(kairos: Harness) -> bool:
    """Whether every fence is at the end of its partition."""
    told = [*kairos.tables.user_tags(), *kairos.tables.item_tags()]
    applied = sum(int(offset) + 1 for tag in told for name, offset in tag.meta.items() if name.startswith(b"o:"))
    return applied == len(kairos.log.of(*TOPICS.user_inputs, *TOPICS.item_inputs))


@PATIENT
@given(st.lists(records(), max_size=12))
def test_every_record_ends_as_a_row_a_letter_or_left_out(made: list[Message]) -> None:
    kairos = Harness()
    kairos.publish(click("neighbour", "hat"), *made, click("neighbour", "hat"))
    kairos.run()
    assert all_applied(kairos)
    assert wrong_rows(kairos) == {}
    neighbour = kairos.user("neighbour")
    assert neighbour is not None
    assert neighbour.totals["click"] == 2


SOURCE = DeltaSource(TOPICS.clicks, 0, "id-1", first=0, last=9, schema=DEFAULT.schema)


@st.composite
def delta_records(draw: st.DrawFn) -> Message:
    """A record for the topic of deltas, which nobody but Kairos writes, with spoiled bytes or headers or neither."""
    count, ids = draw(st.integers(0, 4)), draw(st.lists(st.text(max_size=5), min_size=1, max_size=3))
    deltas = np.frombuffer(draw(st.binary(min_size=24 * count, max_size=24 * count)), DELTA).copy()
    deltas["item"] %= len(ids)
    value = pack_deltas(deltas, [name.encode("utf-8", "replace").decode() for name in ids])
    value = spoiled(value, draw(st.integers(0, 400)), draw(st.integers(0, 255)), draw(HOWS))
    bad = draw(st.none() | st.sampled_from([name for name, _ in SOURCE.headers() if name != "schema"]))
    text = draw(st.none() | st.binary(max_size=6) | st.integers().map(lambda number: str(number).encode()))
    told = tuple((name, text if name == bad else value) for name, value in SOURCE.headers())
    return Message(TOPICS.deltas, None, value, headers=told, partition=draw(st.integers(0, 2)))


@PATIENT
@given(st.lists(delta_records(), max_size=5))
def test_no_delta_record_ends_a_worker(made: list[Message]) -> None:
    kairos = Harness()
    kairos.publish(*made)
    kairos.run()
    kairos.publish(click("u", "hat"))
    kairos.run()
    assert all_applied(kairos)
    assert kairos.item("hat") is not None
