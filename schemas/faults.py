"""What can be wrong with a record: every rule looks over a whole column, and record by record only if it must."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from msgspec import DecodeError, ValidationError

from schemas.partition import partitions_of

Reason = Literal[
    "null key", "null value", "too large", "json", "utf-8", "shape", "missing", "id", "kind", "number", "time", "scene",
    "key mismatch", "partition", "poison",
]  # fmt: skip
Fault = tuple[int, Reason, str]
"""The position in the column, a word for the metric's label, a sentence for people."""

BROKEN = (DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on bytes that are not the message it expects."""

MAX_ID_BYTES = 256
MAX_VALUE_BYTES = 256 * 1024
_NO_NUMBER = re.compile(rb"[:\[,]\s*(NaN|-?Infinity)\s*[,}\]]")
"""What many encoders write for numbers that JSON does not have."""

YEAR_2000_MS = 946_684_800_000
YEAR_2100_MS = 4_102_444_800_000

_REASON_OF_FIELD: dict[str, Reason] = {
    "user_id": "id", "item_id": "id", "kind": "kind", "ts_ms": "time",
    "quantity": "number", "price": "number", "dwell_ms": "number",
}  # fmt: skip


def unreadable(key: bytes | None, value: bytes | None, max_value_bytes: int) -> tuple[Reason, str]:
    """Why a record is not even decoded."""
    if key is None:
        return "null key", "The record has no key; produce with the id as key, so that it finds its partition."
    if not value:
        return "null value", "The record has no value; this topic holds one JSON object a record."
    return "too large", f"The value has {len(value)} bytes; at most {max_value_bytes} are read."


def explain(error: Exception, value: bytes = b"") -> tuple[Reason, str]:
    """Why decoding the value failed, from one of the errors in BROKEN."""
    if not isinstance(error, ValidationError):
        return _malformed(error, value)
    what, _, where = str(error).partition(" - at `$.")
    if "missing required field" in what:
        return "missing", f"{what}."
    name = where.rstrip("`")
    if not name:
        return "shape", f"The value does not fit: {what}."
    return _REASON_OF_FIELD.get(name, "shape"), f"The field {name} does not fit: {what}."


def _malformed(error: Exception, value: bytes) -> tuple[Reason, str]:
    if isinstance(error, RecursionError):
        return "json", "The value is nested too deeply."
    if isinstance(error, UnicodeDecodeError):
        return "utf-8", f"The value is not UTF-8: {error.reason}."
    if found := _NO_NUMBER.search(value):
        return "number", f"{found[1].decode()} is no JSON: send null, or leave out a field that has no number."
    what = str(error).removeprefix("JSON is malformed: ")
    return "json", f"The value is not one JSON object: {what}."


def bad_ids(name: str, ids: Sequence[str]) -> Iterator[Fault]:
    """Ids that are empty, longer than 256 bytes or hold control characters."""
    joined = "".join(ids)
    lengths = set(map(len, ids)) or {1}
    if joined.isascii() and joined.isprintable() and min(lengths) > 0 and max(lengths) <= MAX_ID_BYTES:
        return
    for position, text in enumerate(ids):
        size_bytes = len(text.encode("utf-8", "surrogatepass"))
        if not 0 < size_bytes <= MAX_ID_BYTES:
            yield position, "id", f"The field {name} has {size_bytes} bytes, not 1 to {MAX_ID_BYTES}."
        elif not text.isprintable() and not {"Cc", "Cs"}.isdisjoint(map(unicodedata.category, text)):
            yield position, "id", f"The field {name} holds a control character or is no UTF-8: {text!r}."


def bad_keys(keys: Sequence[bytes], ids: Sequence[str]) -> Iterator[Fault]:
    """Keys that are not the id of their message."""
    joined = "\0".join(ids)
    # Where no id holds a NUL, the joined texts are equal only if every single pair is.
    if b"\0".join(keys) == joined.encode() and joined.count("\0") == len(ids) - 1:
        return
    for position, (key, text) in enumerate(zip(keys, ids, strict=True)):
        if key != text.encode():
            yield position, "key mismatch", f"The key {key[:80]!r} is not the id {text!r} as UTF-8 text."


def bad_kinds(kinds: Sequence[str], allowed: frozenset[str]) -> Iterator[Fault]:
    """Kinds this topic does not carry."""
    if allowed.issuperset(kinds):
        return
    for position, kind in enumerate(kinds):
        if kind not in allowed:
            yield position, "kind", f"The kind {kind[:80]!r} is none of this topic's: {', '.join(sorted(allowed))}."


def misplaced(keys: Sequence[bytes], partition: int, partitions: int) -> Iterator[Fault]:
    """Keys that belong to another partition: a producer with another partitioner splits a user in two."""
    homes = partitions_of(keys, partitions)
    for position in np.flatnonzero(homes != partition).tolist():
        where = f"The key belongs to partition {homes[position]} of {partitions}, not to {partition}"
        yield position, "partition", f"{where}; produce with murmur2 (librdkafka: partitioner=murmur2_random)."


def all_in_ms(times: Sequence[float]) -> bool:
    """Whether every time is a whole number of milliseconds between the years 2000 and 2100."""
    return {int}.issuperset(map(type, times)) and (
        not times or (min(times) >= YEAR_2000_MS and max(times) < YEAR_2100_MS)
    )


def in_ms(time: float) -> tuple[str, int]:
    """The unit and the milliseconds of a time in s, ms or microseconds; the unit is "" outside 2000 to 2100.

    The three ranges do not overlap, so at most one unit fits and nothing is guessed.
    """
    if YEAR_2000_MS <= time < YEAR_2100_MS:
        return "milliseconds", int(time)
    if YEAR_2000_MS <= time * 1000 < YEAR_2100_MS:
        return "seconds", round(time * 1000)
    if YEAR_2000_MS * 1000 <= time < YEAR_2100_MS * 1000:
        return "microseconds", int(time // 1000)
    return "", 0


def no_time(time: object) -> str:
    """The sentence about a time that in_ms does not take."""
    return f"The field ts_ms is {str(time)[:40]}, which is no time between 2000 and 2100 in s, ms or \u00b5s."
