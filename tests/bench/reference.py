"""The reference work as a contender without Kairos does it: one row of 288 bytes a user, folded event by event.

Standard library only, since it also runs in the environment of the peers.
"""

import struct
from collections.abc import Mapping
from typing import Any

APPLIED = "applied"
"""The line by which a contender says that everything is applied, flushed and check-pointed; it ends on end of input."""
KINDS = ("browse", "click")
HOPS_MS = (25_000, 300_000, 7_200_000)  # twelve buckets of each: windows of 5 min, 1 h, 24 h
BUCKETS = 12
HISTORY = 16
GAP_MS = 1_800_000
DEVICES = ("phone", "tablet", "desktop", "watch", "tv", "console", "kiosk", "other")

HEADER = struct.Struct("<qqIB3x")  # newest event, start of the session, its events, its scene
ENTRY = struct.Struct("<QI")  # item, seconds
COUNTS_AT = HEADER.size
HISTORY_AT = COUNTS_AT + len(KINDS) * len(HOPS_MS) * BUCKETS
ROW_BYTES = HISTORY_AT + HISTORY * ENTRY.size

_KIND = {word: i for i, word in enumerate(KINDS)}
_DEVICE = {word: i + 1 for i, word in enumerate(DEVICES)}


def fold(row: bytearray, event: Mapping[str, Any]) -> None:
    """Fold one decoded event into a user's row, in place, in the order of arrival."""
    ts_ms = event["ts_ms"]
    last_ms, start_ms, n, scene = HEADER.unpack_from(row)
    at = COUNTS_AT + _KIND[event["kind"]] * len(HOPS_MS) * BUCKETS
    for window, hop_ms in enumerate(HOPS_MS):
        bucket, top = ts_ms // hop_ms, last_ms // hop_ms
        if bucket > top:
            _clear(row, window, top, bucket)
        if bucket > top - BUCKETS:
            cell = at + window * BUCKETS + bucket % BUCKETS
            row[cell] = min(row[cell] + 1, 255)
    if ts_ms - last_ms > GAP_MS:
        start_ms, n = ts_ms, 0
    if ts_ms >= last_ms:
        last_ms, scene = ts_ms, _DEVICE[event["scene"]["device"]]
    HEADER.pack_into(row, 0, last_ms, min(start_ms, ts_ms), n + 1, scene)
    row[HISTORY_AT + ENTRY.size :] = row[HISTORY_AT : -ENTRY.size]
    ENTRY.pack_into(row, HISTORY_AT, int(event["item_id"]), ts_ms // 1000)


def _clear(row: bytearray, window: int, top: int, bucket: int) -> None:
    """Empty the slots of both kinds that the clock passed on its way from one bucket to a later one."""
    for passed in range(max(top, bucket - BUCKETS) + 1, bucket + 1):
        for kind in range(len(KINDS)):
            row[COUNTS_AT + (kind * len(HOPS_MS) + window) * BUCKETS + passed % BUCKETS] = 0
