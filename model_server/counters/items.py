"""Counters of items alone, and of items under the scene of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.retrieval.lifts import lifted, near
from model_server.retrieval.pairs import F32, I64

if TYPE_CHECKING:
    from streams.features.declaration import Declaration
    from streams.features.items import ItemView

FAR = np.float32(20.0)
"""log1p of the seconds of fifteen years: closeness counts down from here, 0 stands for never."""


def log1p(counts: F32) -> F32:
    """log(1 + counts): five times as fast as np.log1p, whose only gain is in counts far below one."""
    logs: F32 = np.log(np.float32(1) + counts)
    return logs


def closeness(age_s: NDArray[np.floating] | I64) -> F32:
    """20 at once, falling with the log of the age in seconds, 0 for never (a negative age)."""
    near = FAR - np.log1p(np.maximum(age_s, 0)).astype(np.float32)
    return np.where(age_s < 0, np.float32(0), np.maximum(near, np.float32(0))).astype(np.float32)


def item_counters(declaration: Declaration, view: ItemView, repeat: F32) -> F32:
    """Counters f32[R, I] in the order of `names.item_names` of R item views; repeat f32[R] is their repeat share."""
    windows = view.windows.sum(1)
    totals = view.totals.sum(1, dtype=np.int64)
    strong = np.array([kind.strong for kind in declaration.item_kinds])
    logs = np.log1p(windows).astype(np.float32)
    strongly = view.totals[:, strong].sum(1, dtype=np.int64)
    return np.concatenate(
        (
            logs,
            np.log1p(totals)[:, None],
            logs[:, :-1] - logs[:, 1:],
            closeness(np.where(view.age_ms < 0, -1, view.age_ms // 1000))[:, None],
            closeness(np.where(view.idle_ms < 0, -1, view.idle_ms // 1000))[:, None],
            np.log1p(view.windows[:, strong][:, :, -2:].sum(1)),
            (strongly / np.maximum(totals, 1))[:, None],
            repeat[:, None],
        ),
        axis=1,
        dtype=np.float32,
    )


def scene_counters(
    declaration: Declaration, view: ItemView, at: I64, scene: NDArray[np.uint8], everybody: F32, above: F32
) -> F32:
    """Counters f32[B, C, P] of view rows `at` i64[B, C] under scene u8[B, S]: logs of lifts.

    `everybody` f32[B, P]: everybody's share, `above` f32[B, C, P]: the lift of the item's category, see
    `Lifts.expected`. Under an unknown code it is 0, no opinion: whoever tells no scene is answered as in a usual one.
    """
    counted = np.zeros(above.shape, np.float32)
    for i, name in enumerate(declaration.profile_names):
        code = scene[:, declaration.scene_names.index(name)].astype(np.int64)[:, None]
        if code.any():
            profile = view.profiles[name]
            expected = profile[:, 1:].sum(1)[at] * everybody[:, i, None]
            lift = np.log(lifted(near(name, profile, code, at), expected, above[..., i]))
            counted[..., i] = np.where(code > 0, lift, np.float32(0))
    return counted
