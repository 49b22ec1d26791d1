"""Counters of items alone, and of items under the scene of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.retrieval.pairs import F32, I64

if TYPE_CHECKING:
    from streams.features.declaration import Declaration
    from streams.features.items import ItemView

FAR = np.float32(20.0)
"""log1p of the seconds of fifteen years: closeness counts down from here, 0 stands for never."""


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


def scene_counters(declaration: Declaration, view: ItemView, at: I64, scene: NDArray[np.uint8]) -> F32:
    """Counters f32[B, C, 2 P] of view rows `at` i64[B, C] under scene u8[B, S].

    Under an unknown code stands what the item's own events see on average, so that whoever tells no scene is not taken
    for one in whose scene nobody does anything.
    """
    fields = declaration.profile_names
    counted = np.empty((*at.shape, 2 * len(fields)), np.float32)
    total = np.maximum(view.profiles["hour"].sum(1), 1)[at]
    for i, name in enumerate(fields):
        code = scene[:, declaration.scene_names.index(name)].astype(np.int64)[:, None]
        profile = view.profiles[name]
        events = profile[at, code]
        if name == "hour":
            events = events + profile[at, _around(code, -1)] + profile[at, _around(code, 1)]
        if not code.all():
            events = np.where(code > 0, events, _usual(profile, 3 if name == "hour" else 1)[at])
        np.log1p(events, out=counted[..., i])
        np.divide(events, total, out=counted[..., len(fields) + i])
    return counted


def _usual(profile: F32, width: int) -> F32:
    """Events f32[R] under the code of one of the item's own events, drawn at random; `width` codes count together."""
    known = profile[:, 1:]
    near = known if width == 1 else known + np.roll(known, 1, axis=1) + np.roll(known, -1, axis=1)
    usual: F32 = (known * near).sum(1) / np.maximum(known.sum(1), np.float32(1))
    return usual


def _around(code: I64, step: int) -> I64:
    """The code of the hour `step` hours away; codes run 1..24."""
    return 1 + (code - 1 + step) % 24
