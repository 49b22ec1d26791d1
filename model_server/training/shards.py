"""Shards: a stretch of a partition, encoded, as one parquet file that any process can write and pandas can read.

A shard's name says what it holds: topic, partition, the offsets from its first up to but without its end, and a mark
of what the bytes mean. Shards of one mark are a log that is kept: what a later reading finds there it does not read
again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from model_server.training.recorded import Part
from streams.features.columns import Columns, item_code

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streams.features.declaration import Declaration

NAME = re.compile(r"(?P<topic>.+)-(?P<partition>\d+)-(?P<first>\d{16})-(?P<end>\d{16})-(?P<mark>[0-9a-f]{16})\.parquet")
REJECTED = b"kairos.rejected"


class Stretch(NamedTuple):
    """Offsets first..end-1 of a partition."""

    topic: str
    partition: int
    first: int
    end: int

    @property
    def records(self) -> int:
        """Offsets in it, some of which may hold no record."""
        return self.end - self.first


def mark(topic_id: str, declaration: Declaration, zone: str) -> str:
    """What the bytes of a shard mean: of which topic they are, under which declaration and time zone they were read."""
    return blake2b(f"{topic_id} {declaration.schema} {zone}".encode(), digest_size=8).hexdigest()


def path_of(folder: Path, stretch: Stretch, sign: str) -> Path:
    """The file of a stretch of mark `sign`."""
    topic, partition, first, end = stretch
    return folder / f"{topic}-{partition}-{first:016}-{end:016}-{sign}.parquet"


def kept(folder: Path, signs: Mapping[str, str], ends: Mapping[tuple[str, int], int]) -> list[Stretch]:
    """What lies in a folder of the topics' logs, each stretch after the one before it; `signs`: topic -> mark.

    A stretch that overlaps an earlier one, or reaches beyond the end of its log, is not told.
    """
    named = (NAME.fullmatch(path.name) for path in folder.glob("*.parquet"))
    found = [
        Stretch(name["topic"], *(int(name[part]) for part in ("partition", "first", "end")))
        for name in named
        if name and signs.get(name["topic"]) == name["mark"]
    ]
    chained: list[Stretch] = []
    for stretch in sorted(found):
        before = chained[-1] if chained and chained[-1][:2] == stretch[:2] else None
        if (before is None or stretch.first >= before.end) and stretch.end <= ends.get(stretch[:2], 0):
            chained.append(stretch)
    return chained


def missing(
    held: Sequence[Stretch], first: Mapping[tuple[str, int], int], ends: Mapping[tuple[str, int], int], most: int
) -> list[Stretch]:
    """What of the logs is not held, before, between and after, in stretches of at most `most` offsets.

    A process that was killed leaves a gap, which is read; what retention took out of the log is not missed.
    """
    gaps = []
    for place, end in sorted(ends.items()):
        begin = first[place]
        for stretch in (*(one for one in held if one[:2] == place), Stretch(*place, end, end)):
            gaps += [Stretch(*place, at, min(at + most, stretch.first)) for at in range(begin, stretch.first, most)]
            begin = max(begin, stretch.end)
    return gaps


def write(path: Path, part: Part, declaration: Declaration) -> None:
    """Write a part whole, or not at all."""
    columns = part.columns
    table = {
        "ts_ms": columns.ts_ms,
        "user": _named(part.user, part.user_ids),
        "kind": columns.kind,
        "item": _named(part.item, part.item_ids),
        "dwell_ms": columns.dwell_ms,
        "price_minor": columns.price_minor,
        "scened": columns.scened,
        "zone": columns.zone,
        "locale": _locales(columns.locale),
        **{_scene(name): columns.codes[:, i] for i, name in enumerate(declaration.scene_names)},
    }
    made = pa.table(table).replace_schema_metadata({REJECTED: str(part.rejected)})
    unready = path.with_suffix(f".{os.getpid()}.tmp")
    parquet.write_table(made, unready, compression="zstd")
    unready.replace(path)


def read(path: Path, declaration: Declaration) -> Part:
    """The part that a shard holds."""
    table = parquet.ParquetFile(path).read()
    user, user_ids = _names(table, "user")
    item, item_ids = _names(table, "item")
    codes = np.array([item_code(name) for name in item_ids], np.uint64)
    locale, locales = _names(table, "locale")
    columns = Columns(
        ts_ms=_numbers(table, "ts_ms"),
        kind=_numbers(table, "kind"),
        item=codes[item] if len(item) else np.empty(0, np.uint64),
        dwell_ms=_numbers(table, "dwell_ms"),
        price_minor=_numbers(table, "price_minor"),
        codes=np.stack([_numbers(table, _scene(name)) for name in declaration.scene_names], axis=1),
        scened=_numbers(table, "scened"),
        zone=_numbers(table, "zone"),
        locale=np.array(locales, "S8")[locale] if len(locale) else np.empty(0, "S8"),
    )
    return Part(columns, user, user_ids, item, item_ids, int(table.schema.metadata[REJECTED]))


def _scene(name: str) -> str:
    return f"scene_{name}"


def _named(numbers: NDArray[np.int32], names: Sequence[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(numbers, pa.int32()), pa.array(names, pa.string()))


def _locales(locale: NDArray[np.bytes_]) -> pa.DictionaryArray:
    names, numbers = np.unique(locale, return_inverse=True)
    return pa.DictionaryArray.from_arrays(pa.array(numbers, pa.int32()), pa.array(names.tolist(), pa.binary()))


def _names(table: pa.Table, name: str) -> tuple[NDArray[np.int32], list[Any]]:
    column = table.column(name).unify_dictionaries().combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    return column.indices.to_numpy(zero_copy_only=False).astype(np.int32), column.dictionary.to_pylist()


def _numbers(table: pa.Table, name: str) -> NDArray[Any]:
    found: NDArray[Any] = table.column(name).to_numpy()
    return found
