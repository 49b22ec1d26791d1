"""Counters of items alone, and of items under the scene of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from model_server.retrieval.lifts import PRIOR, around
from model_server.retrieval.pairs import F32, I32, I64

if TYPE_CHECKING:
    from model_server.item_sums import ItemSums
    from streams.features.declaration import Declaration

T = TypeVar("T", bound=np.generic)

FAR = np.float32(20.0)
"""log1p of the seconds of fifteen years: closeness counts down from here, 0 stands for never."""


class Seen(NamedTuple):
    """R views of items: row i64[R] of `sums` and its item i32[R], each as of now_ms (one time, or i64[R]).

    Candidate (b, c) is view at[b, c]; what stands there for padding is never read.
    """

    sums: ItemSums
    row: NDArray[np.integer]
    item: I32
    now_ms: int | I64
    at: I64

    def of(self, view: NDArray[T]) -> NDArray[T]:
        """What is known of views [..., R], of each candidate: [..., B, C]."""
        return np.take(view, self.at, axis=-1, mode="clip")


def log1p(counts: F32) -> F32:
    """log(1 + counts): five times as fast as np.log1p, whose only gain is in counts far below one."""
    logs: F32 = np.log(np.float32(1) + counts)
    return logs


def log1p_whole(counts: NDArray[np.integer]) -> F32:
    """log(1 + counts) of whole numbers >= 0, as np.log1p rounds it to float32, in half its time."""
    logs: F32 = np.log(1.0 + counts).astype(np.float32)
    return logs


def closeness(age_s: NDArray[np.floating] | I64) -> F32:
    """20 at once, falling with the log of the age in seconds, 0 for never (a negative age)."""
    age = np.maximum(age_s, 0)
    near = FAR - (log1p_whole(age) if age.dtype.kind == "i" else np.log1p(age).astype(np.float32))
    return np.where(age_s < 0, np.float32(0), np.maximum(near, np.float32(0))).astype(np.float32)


def item_counters(declaration: Declaration, seen: Seen, repeat: F32) -> F32:
    """Counters f32[R, I] in the order of `names.item_names` of R views; repeat f32[R] is the items' repeat share."""
    sums, row, windows = seen.sums, seen.row, len(declaration.windows)
    totals, strong = sums.totals[row], sums.strong[row]
    idle_ms, age_ms = sums.ages_ms(row, seen.now_ms)
    logs = log1p_whole(sums.windows(row, seen.now_ms))
    return np.concatenate(
        (
            logs[:, :windows],
            log1p_whole(totals)[:, None],
            logs[:, : windows - 1] - logs[:, 1:windows],
            closeness(np.where(age_ms < 0, -1, age_ms // 1000))[:, None],
            closeness(np.where(idle_ms < 0, -1, idle_ms // 1000))[:, None],
            logs[:, windows:],
            (strong / np.maximum(totals, 1))[:, None],
            repeat[:, None],
        ),
        axis=1,
        dtype=np.float32,
    )


def scene_codes(declaration: Declaration, scene: NDArray[np.uint8]) -> I64:
    """Codes i64[P, B] of the profile fields of scenes u8[B, S]."""
    return scene[:, [declaration.scene_names.index(name) for name in declaration.profile_names]].T.astype(np.int64)


def scene_counters(seen: Seen, field: I64, code: I64, share: F32, above: F32) -> F32:
    """Counters f32[T, B, C] of candidates under codes i64[T, B] of the profile fields i64[T]: logs of lifts.

    See `retrieval.lifts.lifted`. share f32[T, B]: everybody's, above f32[T, B, C]: the lift of the item's category, see
    `Lifts.expected`. Under an unknown code it is 0, no opinion: whoever tells no scene is answered as in a usual one.
    """
    weight = seen.sums.weights(seen.row, seen.now_ms)
    known = np.take(seen.sums.known, seen.row, axis=0).transpose(2, 1, 0)[:, field]
    lift = above * PRIOR
    lift += _events(seen, field, code, weight)
    expected = seen.of(known[0] * weight[0] + known[1] * weight[1])
    expected *= share[:, :, None]
    expected += PRIOR
    lift /= expected
    np.log(lift, out=lift)
    lift[code == 0] = 0
    return lift


def _events(seen: Seen, field: I64, code: I64, weight: F32) -> F32:
    """Events f32[T, B, C] of candidates under codes of fields; an hour counts with its two neighbours."""
    profiles, starts = seen.sums.profiles, seen.sums.layout.offsets[:-1][field, None]
    hour = np.flatnonzero(field == seen.sums.layout.declaration.profile_names.index("hour"))
    columns = (starts + code, *(starts[hour] + near for near in around(code[hour])))
    place = seen.of(seen.row.astype(np.int64) * profiles.shape[1]) + np.concatenate(columns)[:, :, None]
    # Both periods of a code are read at once, as one number.
    both = np.take(profiles.view("<u4"), place, mode="clip")
    newest, before = seen.of(weight)
    events = (both & 0xFFFF).astype(np.float32)
    events *= newest
    both >>= 16
    events += both.astype(np.float32) * before
    for neighbours in events[len(field) :]:
        events[hour] += neighbours
    return events[: len(field)]
