"""A file of events as chunks: positions are offsets, what is settled is passed over, and a bad line is named."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.partition import partition_of
from streams.replay.counting import Distinct
from streams.replay.job import FileJob, Job, shares
from streams.replay.lines import FileChunks, FileError, survey_lines
from streams.replay.ranges import Range

PARTITIONS = 3


def line(number: int) -> bytes:
    return orjson.dumps({"user_id": f"u{number % 7}", "item_id": "i", "kind": "click", "ts_ms": 1_790_000_000 + number})


def file_of(folder: Path, lines: list[bytes]) -> FileJob:
    path = folder / "log.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return FileJob(str(path), "file:log.jsonl", "id", len(lines), PARTITIONS)


def test_every_line_comes_once_in_order_and_no_hole_lies_between_chunks(tmp_path: Path) -> None:
    job = file_of(tmp_path, [line(n) for n in range(100)] + [b""])
    lines, seen = FileChunks(job, [0, 1, 2], 5), dict.fromkeys(range(PARTITIONS), -1)
    offsets = []
    for chunks in lines.rounds():
        assert len({chunk.partition for chunk in chunks}) == len(chunks)
        for chunk in chunks:
            assert chunk.prev == seen[chunk.partition]
            assert {partition_of(record.key or b"", PARTITIONS) for record in chunk.records} == {chunk.partition}
            seen[chunk.partition] = chunk.last
            offsets += [record.offset for record in chunk.records]
        lines.settle(chunks)
    assert sorted(offsets) == list(range(100))
    assert lines.behind == 100


@given(settled=st.lists(st.integers(-1, 99), min_size=3, max_size=3))
def test_what_is_settled_is_passed_over(tmp_path_factory: pytest.TempPathFactory, settled: list[int]) -> None:
    job = file_of(tmp_path_factory.mktemp("lines"), [line(n) for n in range(100)])
    lines = FileChunks(job, [0, 1, 2], 7)
    homes = [partition_of(f"u{n % 7}".encode(), PARTITIONS) for n in range(100)]
    # A fence stands on a line of its partition, or before the first.
    for partition, most in enumerate(settled):
        lines.done[partition] = max((n for n in range(most + 1) if homes[n] == partition), default=-1)
    fences = dict(lines.done)
    read = dict(fences)
    offsets = []
    for chunks in lines.rounds():
        for chunk in chunks:
            assert chunk.prev == read[chunk.partition]
            read[chunk.partition] = chunk.last
            offsets += [record.offset for record in chunk.records]
        lines.settle(chunks)
    assert sorted(offsets) == [n for n in range(100) if n > fences[homes[n]]]


def test_items_come_to_the_partitions_of_items(tmp_path: Path) -> None:
    path = tmp_path / "log.items.jsonl"
    path.write_bytes(b"".join(orjson.dumps({"item_id": f"i{n}", "ts_ms": n}) + b"\n" for n in range(20)))
    lines = FileChunks(FileJob(str(path), "file:items:log", "id", 20, PARTITIONS, "items"), [0, 1, 2], 3)
    found = [(chunk.partition, record) for chunks in lines.rounds() for chunk in chunks for record in chunk.records]
    assert sorted((record.key, record.timestamp) for _, record in found) == sorted((b"i%d" % n, n) for n in range(20))
    assert all(partition_of(record.key or b"", PARTITIONS) == partition for partition, record in found)


def test_the_time_of_an_event_is_when_it_was_heard(tmp_path: Path) -> None:
    (chunk,) = next(FileChunks(file_of(tmp_path, [line(0)]), [0, 1, 2], 5).rounds())
    assert chunk.records[0].timestamp == 1_790_000_000_000


@pytest.mark.parametrize("bad", [b"{", b"[]", b'{"item_id": "i"}', b'{"user_id": "u", "ts_ms": "noon"}', b"\xff"])
def test_a_malformed_line_is_named_with_how_many_were_good(tmp_path: Path, bad: bytes) -> None:
    job = file_of(tmp_path, [line(0), b"", line(1), bad, line(2)])
    with pytest.raises(FileError) as told:
        survey_lines(Path(job.path), "log.jsonl")
    assert "log.jsonl line 4 is no event" in str(told.value)
    assert "Good lines before it: 2. Nothing was written" in str(told.value)


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    job = file_of(tmp_path, [line(5), line(1), b""])
    one = survey_lines(Path(job.path), "a")
    assert (one.lines, one.events, one.first_ms, one.last_ms) == (3, 2, 1_790_000_001_000, 1_790_000_005_000)
    assert one.id == survey_lines(Path(job.path), "b").id
    assert one.id != survey_lines(Path(file_of(tmp_path, [line(5)]).path), "a").id


def test_a_job_is_split_by_partition_and_so_is_its_rate() -> None:
    ranges = [Range("t", p, 0, 100 * (p + 1), 0, 900, "id", 3) for p in range(3)]
    job = Job("users", "run", "rebuild", ranges, 10, rate=60)
    parts = shares(job, 2)
    assert [[r.partition for r in part.ranges] for part in parts] == [[0, 2], [1]]
    assert [part.rate for part in parts] == [40, 20]
    assert len(shares(job, 8)) == 3
    file = FileJob("f", "file:f", "id", 9, 3)
    lines = shares(Job("users", "run", "rebuild", [], 10, file=file, file_partitions=[0, 1, 2]), 2)
    assert [part.file_partitions for part in lines] == [[0, 2], [1]]


@given(st.lists(st.text(max_size=3)))
def test_distinct_texts_are_counted(texts: list[str]) -> None:
    counted = Distinct()
    for at in range(0, len(texts), 3):
        counted.add(texts[at : at + 3])
    assert counted.count() == len(set(texts))
