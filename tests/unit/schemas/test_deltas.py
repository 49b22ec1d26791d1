"""Delta records: what is packed comes back, and bytes that are no delta record are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.deltas import DELTA, DeltaError, DeltaSource, pack_deltas, unpack_deltas

SOURCE = DeltaSource("events.clicks.v1", 3, "AbC-id", first=100, last=599, schema=4_000_000_000)


def some(count: int, ids: int) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    deltas = np.zeros(count, DELTA)
    deltas["ts_ms"] = np.arange(count) + 1_760_000_000_000
    deltas["offset"] = np.arange(count)
    deltas["item"] = np.arange(count) % ids
    deltas["kind"] = 3
    deltas["codes"] = np.arange(7)
    return deltas


def test_a_delta_is_24_bytes() -> None:
    assert DELTA.itemsize == 24


@pytest.mark.parametrize(("count", "ids"), [(0, 0), (1, 1), (500, 37)])
def test_what_is_packed_comes_back(count: int, ids: int) -> None:
    item_ids = [f"item-{number}-商" for number in range(ids)]
    deltas = some(count, max(ids, 1))
    read, read_ids = unpack_deltas(pack_deltas(deltas, item_ids))
    assert read.tobytes() == deltas.tobytes()
    assert read_ids == item_ids


def test_headers_come_back() -> None:
    assert DeltaSource.of(SOURCE.headers()) == SOURCE


@pytest.mark.parametrize("name", [name for name, _ in SOURCE.headers()])
def test_a_missing_header_is_refused(name: str) -> None:
    with pytest.raises(DeltaError, match="headers"):
        DeltaSource.of([header for header in SOURCE.headers() if header[0] != name])


def test_a_header_that_is_no_number_is_refused() -> None:
    with pytest.raises(DeltaError, match="headers"):
        DeltaSource.of([(name, b"x" if name == "last" else value) for name, value in SOURCE.headers()])


def test_an_item_beyond_the_list_is_refused_on_both_sides() -> None:
    with pytest.raises(DeltaError, match="2 item ids"):
        pack_deltas(some(3, 3), ["a", "b"])
    packed = pack_deltas(some(3, 3), ["a", "b", "c"])
    with pytest.raises(DeltaError, match="item 2 of 2"):
        unpack_deltas(packed.replace(b'["a","b","c"]', b'["a","b,,,c"]'))


def test_foreign_and_cut_bytes_are_refused() -> None:
    packed = pack_deltas(some(3, 3), ["a", "b", "c"])
    for value in (None, b"", b"KID1", packed[:-1], packed + b" ", b"KID2" + packed[4:], packed[:-1] + b"!"):
        with pytest.raises(DeltaError):
            unpack_deltas(value)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(tail: bytes) -> None:
    for value in (tail, b"KID1" + tail):
        try:
            deltas, ids = unpack_deltas(value)
        except DeltaError:
            continue
        again, again_ids = unpack_deltas(pack_deltas(deltas, ids))
        assert (again.tobytes(), again_ids) == (deltas.tobytes(), ids)
