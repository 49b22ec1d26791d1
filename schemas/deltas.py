"""Item deltas: what a chunk of user events means to items, as one binary record for each item partition."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from schemas.encoding import Header, Headers

MAGIC = b"KID1"
CODES = 7
DELTA = np.dtype(
    [
        ("ts_ms", "<i8"),
        ("offset", "<u4"),  # in the source partition, counted from DeltaSource.first
        ("item", "<u2"),  # position in the record's list of item ids
        ("kind", "u1"),
        ("hour", "u1"),
        ("weekday", "u1"),
        ("codes", "u1", (CODES,)),  # profile fields without hour and weekday, in the order of their declaration
    ]
)
MAX_IDS = 1 << 16
_MANY = 1 << 62
"""More than any offset."""

_HEAD = struct.Struct("<4sII")
_decode_ids = msgspec.json.Decoder(list[str]).decode


class DeltaError(ValueError):
    """Bytes or headers that are no delta record; such a record was not written by Kairos."""


@dataclass(frozen=True)
class DeltaSource:
    """The records a delta record stands for: offsets first..last of one incarnation of a source partition.

    incarnation: the topic id, which changes when a topic is created anew; schema: the number of the feature
    declaration the codes are of.
    """

    topic: str
    partition: int
    incarnation: str
    first: int
    last: int
    schema: int

    def headers(self) -> Headers:
        """As Kafka headers."""
        return [(name, str(getattr(self, field)).encode("ascii")) for name, field in _HEADERS.items()]

    @classmethod
    def of(cls, headers: Sequence[Header]) -> "DeltaSource":
        """From Kafka headers; raises DeltaError when one is missing or no number."""
        texts = {name: (value or b"").decode("ascii", "replace") for name, value in headers}
        try:
            source = cls(
                topic=texts["source-topic"],
                partition=int(texts["source-partition"]),
                incarnation=texts["source-incarnation"],
                first=int(texts["first"]),
                last=int(texts["last"]),
                schema=int(texts["schema"]),
            )
        except (KeyError, ValueError) as error:
            msg = f"The headers {texts} are not those of a delta record: {error!r}"
            raise DeltaError(msg) from error
        if not (0 <= source.partition < _MANY and 0 <= source.first <= source.last < _MANY):
            msg = f"The headers {texts} are not those of a delta record: there are no such offsets"
            raise DeltaError(msg)
        return source


_HEADERS = {
    "source-topic": "topic",
    "source-partition": "partition",
    "source-incarnation": "incarnation",
    "first": "first",
    "last": "last",
    "schema": "schema",
}


def pack_deltas(deltas: NDArray[np.void], item_ids: Sequence[str]) -> bytes:
    """The value of a delta record: DELTA[N] whose `item` points into item_ids."""
    if deltas.dtype != DELTA or len(item_ids) > MAX_IDS or (len(deltas) and int(deltas["item"].max()) >= len(item_ids)):
        msg = f"Deltas of {deltas.dtype} do not fit a list of {len(item_ids)} item ids"
        raise DeltaError(msg)
    ids = orjson.dumps(list(item_ids))
    return b"".join((_HEAD.pack(MAGIC, len(deltas), len(ids)), deltas.tobytes(), ids))


def unpack_deltas(value: bytes | None) -> tuple[NDArray[np.void], list[str]]:
    """DELTA[N] (read-only) and the item ids; raises DeltaError unless every byte and every index is accounted for."""
    if value is None or len(value) < _HEAD.size:
        msg = "The value is shorter than the head of a delta record"
        raise DeltaError(msg)
    magic, count, ids_bytes = _HEAD.unpack_from(value)
    end = _HEAD.size + count * DELTA.itemsize
    if magic != MAGIC or len(value) != end + ids_bytes:
        msg = f"The value starts with {magic!r} and has {len(value)} bytes, not {MAGIC!r} and {end + ids_bytes} bytes"
        raise DeltaError(msg)
    deltas = np.frombuffer(value, DELTA, count, _HEAD.size)
    try:
        item_ids: list[str] = _decode_ids(value[end:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"The item ids of a delta record are no list of texts: {error}"
        raise DeltaError(msg) from error
    if count and int(deltas["item"].max()) >= len(item_ids):
        msg = f"A delta points to item {int(deltas['item'].max())} of {len(item_ids)}"
        raise DeltaError(msg)
    return deltas, item_ids
