"""Bytes that somebody else wrote, or a disk spoiled, are read or refused as each reader says, never otherwise."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from model_server.policy import pushes
from schemas import dead_letters
from schemas.dead_letters import OURS, DeadLetter, Origin
from streams.breaker import Window
from streams.chunks.drain import read_all
from streams.features.blobs import UnreadableError
from streams.features.declaration import DEFAULT
from streams.features.items import ItemLayout
from streams.features.rows import Layout
from streams.operations.dead_letters_read import Place, entry_of
from streams.service.records import KeptRecords

PATIENT = settings(deadline=None)
NOW_MS = 1_764_000_000_000
USERS, ITEMS = Layout(DEFAULT), ItemLayout(DEFAULT)
names = st.text(max_size=8) | st.sampled_from(sorted(OURS))
headers = st.lists(st.tuples(names, st.none() | st.binary(max_size=9) | st.sampled_from([b"1", b"-1", b"9" * 30])))
maybe = st.none() | st.binary(max_size=30)


def rows_of(layout: Layout | ItemLayout) -> list[bytes]:
    """Two blobs, one of an empty row."""
    rows = layout.empty(2)
    rows["schema"] = layout.schema
    rows["totals"][1] = 7
    return list(layout.pack(rows))


@pytest.mark.parametrize("layout", [USERS, ITEMS])
@PATIENT
@given(data=st.data())
def test_the_blob_of_a_row_is_read_or_refused(layout: Layout | ItemLayout, data: st.DataObject) -> None:
    good = data.draw(st.sampled_from(rows_of(layout)))
    at, byte = data.draw(st.integers(0, len(good))), data.draw(st.binary(max_size=3))
    blob = data.draw(
        st.sampled_from([good[:at] + byte + good[at + 1 :], good[:at], good + byte, byte, good]).filter(bool)
    )
    try:
        (row,) = layout.unpack([blob])
    except UnreadableError:
        return
    again = layout.empty(1)
    again[0] = row
    assert layout.unpack(layout.pack(again)).tobytes() == again.tobytes()


@PATIENT
@given(maybe, maybe, headers)
def test_any_record_can_be_buried_read_shown_and_put_back(
    key: bytes | None, value: bytes | None, found: list[tuple[str, bytes | None]]
) -> None:
    letter = dead_letters.bury(
        topic="clicks", partition=3, offset=7, key=key, value=value, headers=found, reason="json", detail="x", now_ms=1
    )
    message = dead_letters.encode(letter)
    read = dead_letters.decode(message.key, message.value, message.headers)
    assert (read.key, read.value, read.headers) == (key, value, letter.headers)
    assert entry_of(Place(0, 0), NOW_MS, read).size_bytes > 0
    back = dead_letters.redrive(read)
    assert dead_letters.is_copy_within(3, 0, back.headers)
    assert not dead_letters.is_copy_within(3, 8, back.headers)


@PATIENT
@given(maybe, maybe, headers)
def test_a_foreign_record_among_the_letters_is_told_from_them(
    key: bytes | None, value: bytes | None, found: list[tuple[str, bytes | None]]
) -> None:
    try:
        letter = dead_letters.decode(key, value, found)
    except ValueError:
        return
    assert isinstance(letter, DeadLetter)


def _json(said: Any) -> bytes:
    return json.dumps(said).encode()


json_ish = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text(max_size=4), parts, max_size=3),
    max_leaves=8,
)

threes = st.lists(st.lists(json_ish, min_size=3, max_size=3), max_size=2)


@PATIENT
@given(st.binary(max_size=40) | (threes | json_ish).map(lambda said: _json({"topic": said})) | json_ish.map(_json))
def test_a_marker_names_origins_or_is_none(value: bytes) -> None:
    found = dead_letters.decode_marker(value, [(dead_letters.REDRIVEN, b"true")])
    for origin in found or []:
        assert {origin} == {Origin(str(origin.topic), int(origin.partition), int(origin.offset), str(origin.digest))}


@PATIENT
@given(st.binary(max_size=40) | json_ish.map(lambda said: _json({"offset": 1, "bits": "f", "tripped": said})))
def test_the_note_of_a_breaker_is_read_or_is_none(note: bytes) -> None:
    window = Window.of_note(note)
    if window is not None:
        assert Window.of_note(window.to_note()) == window


@PATIENT
@given(st.binary(max_size=40) | json_ish.map(lambda said: _json([said])))
def test_a_push_log_is_read_or_refused(blob: bytes) -> None:
    try:
        assert isinstance(pushes.decode(blob), tuple)
    except ValueError:
        return


def test_what_was_fetched_goes_with_its_last_record() -> None:
    """In a cycle it would wait for the collector, which a worker seldom runs: megabytes that come and go."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    builder.append(0, NOW_MS, b"k", b"v", [])
    fetched = KeptRecords(bytes(builder.build()))
    batches = PartitionRecords(TopicPartition("clicks", 0), fetched, None, 0, None, None, False, READ_COMMITTED)
    assert len(read_all(batches)) == 1
    gone = weakref.ref(batches)
    gc.disable()
    del batches
    gc.enable()
    assert gone() is None


ODD = "ÿþ"  # four bytes as UTF-8, for which others are put


@pytest.mark.parametrize("read", [read_all, list], ids=["by the worker", "by aiokafka's own consumer"])
@PATIENT
@given(odd=st.lists(st.booleans(), min_size=1, max_size=9))
def test_a_header_name_that_is_no_utf_8_harms_no_record(
    read: Callable[[PartitionRecords], list[Any]], odd: list[bool]
) -> None:
    """Kafka takes any bytes there; the readers that aiokafka brings stop at the first."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    for number, strange in enumerate(odd):
        name = ODD if strange else "fine"
        builder.append(number, NOW_MS + number, b"k%d" % number, b"v%d" % number, [(name, b"x"), ("null", None)])
    fetched = bytes(builder.build()).replace(ODD.encode(), b"\xff\xfe\xff\xfe")
    both = KeptRecords(fetched + len(odd).to_bytes(8, "big") + fetched[8:])  # a second batch, with the next offsets
    batches = PartitionRecords(TopicPartition("clicks", 0), both, None, 0, None, None, False, READ_COMMITTED)
    records = read(batches)
    assert [record.offset for record in records] == list(range(2 * len(odd)))
    expected = [(NOW_MS + number, b"k%d" % number, b"v%d" % number) for number in range(len(odd))]
    assert [(record.timestamp, record.key, record.value) for record in records] == expected * 2
    told = [[name for name, _ in record.headers] for record in records]
    assert told == [["\ufffd" * 4 if strange else "fine", "null"] for strange in odd] * 2
    assert batches.next_fetch_offset == 2 * len(odd)
