"""A file of events or items, one JSON object a line, as chunks of partitions: an offset is the position of a line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from schemas.encoding import Header
from schemas.faults import in_ms
from schemas.partition import partitions_of
from streams.chunks.chunk import Chunk, Drained, cut
from streams.replay.job import FileJob

READ_BYTES = 1 << 20


class FileError(Exception):
    """A file that cannot be used; the text names it, the line and the way out."""


class Line(NamedTuple):
    """A line as a record. It was heard when it happened: a file knows no other time, and nothing in it is too old."""

    offset: int
    key: bytes
    value: bytes
    timestamp: int
    headers: Sequence[Header] = ()


class _Head(msgspec.Struct, gc=False):
    user_id: str | int
    ts_ms: float | int


class _ItemHead(msgspec.Struct, gc=False):
    item_id: str
    ts_ms: int


_head = msgspec.json.Decoder(_Head).decode
_item_head = msgspec.json.Decoder(_ItemHead).decode


class Surveyed(NamedTuple):
    """What a file holds: lines (empty ones included), events, its earliest and latest time in ms, a hash of it all."""

    lines: int
    events: int
    first_ms: int
    last_ms: int
    id: str


def survey_lines(path: Path, name: str) -> Surveyed:
    """Look at every line. Raises FileError at the first one that is no event at all, before anything was folded."""
    hashed, events, times, lines = hashlib.blake2b(digest_size=16), 0, (1 << 62, 0), 0
    with path.open("rb") as file:
        for lines, line in enumerate(file, 1):
            hashed.update(line)
            if line.isspace():
                continue
            try:
                unit, ts_ms = in_ms(_head(line).ts_ms)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                message = (
                    f"{name} line {lines} is no event: {error}. Good lines before it: {events:,}. Nothing "
                    "was written: mend or remove the line; a file of other columns needs --map."
                )
                raise FileError(message) from error
            events += 1
            if unit:
                times = min(times[0], ts_ms), max(times[1], ts_ms)
    return Surveyed(lines, events, *times, hashed.hexdigest())


class FileChunks:
    """The lines of a file that belong to some of its partitions; `done` is the last position settled of each."""

    def __init__(self, file: FileJob, mine: Sequence[int], chunk: int) -> None:
        self.file, self.mine, self.chunk = file, mine, chunk
        self.done = dict.fromkeys(mine, -1)
        self.behind = 0
        self._seen = 0

    def rounds(self) -> Iterator[list[Chunk]]:
        """Chunks of different partitions, from the start of the file on; what is settled already is passed over."""
        read, self._seen, self.behind = dict.fromkeys(self.mine, -1), 0, 0
        for batch in self._batches():
            self._seen += len(batch)
            by_partition: dict[int, list[Line]] = {}
            homes = partitions_of([line.key for line in batch], self.file.partitions).tolist()
            for home, line in zip(homes, batch, strict=True):
                by_partition.setdefault(home, []).append(line)
            chunks: list[Chunk] = []
            for partition in self.mine:
                found = by_partition.get(partition, [])
                new = [line for line in found if line.offset > self.done[partition]]
                prev = next((line.offset for line in reversed(found) if line.offset <= self.done[partition]), None)
                prev = read[partition] if prev is None else prev
                chunks += cut(self.file.topic, partition, Drained(0, prev, new), max(len(new), 1))
                read[partition] = found[-1].offset if found else read[partition]
            if chunks:
                yield chunks
            self._pass()

    def settle(self, chunks: Sequence[Chunk]) -> None:
        """These chunks are applied."""
        for chunk in chunks:
            self.done[chunk.partition] = chunk.last
        self._pass()

    def _pass(self) -> None:
        self.behind = self._seen * len(self.mine) // self.file.partitions

    def _batches(self) -> Iterator[list[Line]]:
        """Runs of lines of about a chunk for each partition; lines outside the wanted time are left out."""
        size, batch = self.chunk * self.file.partitions, list[Line]()
        record_of = _item if self.file.side == "items" else _event
        with Path(self.file.path).open("rb") as file:
            for position, text in enumerate(file):
                if text.isspace():
                    continue
                key, ts_ms = record_of(text)
                batch.append(Line(position, key, text.strip(), ts_ms))
                if len(batch) >= size:
                    yield batch
                    batch = []
        if batch:
            yield batch


def _event(text: bytes) -> tuple[bytes, int]:
    """Key of an event, and its time in ms, negative where it has none."""
    head = _head(text)
    unit, ts_ms = in_ms(head.ts_ms)
    return str(head.user_id).encode(), ts_ms if unit else -1


def _item(text: bytes) -> tuple[bytes, int]:
    """Key of a catalogue record, and its time in ms."""
    head = _item_head(text)
    return head.item_id.encode(), head.ts_ms
