"""A bundle's own view of the titles: fewer dimensions, centred, on a grid on which products are exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from model_server.retrieval.pairs import F32

WIDTH = 64
GRID = np.float32(1024)
"""Vectors are multiples of 2^-10 and no longer than about one. Products of two, or of one and a sum of up to fifteen,
are then exact in float32 in whatever order they are summed: live, training and evaluation agree bit for bit, on any
machine and in any batch."""
LEAST = 1e-6
ROWS = 8192


class Projection(NamedTuple):
    """back_end: whose vectors f32[D] it takes; they are centred at `mean` f32[D] and turned by `axes` f32[D, d]."""

    back_end: str
    mean: F32
    axes: F32

    @property
    def width(self) -> int:
        """The length d of what comes out."""
        return int(self.axes.shape[1])

    def of(self, raw: F32) -> F32:
        """f32[N, d] of unit length but for the grid of raw vectors [N, D]; nothing (all 0) stays nothing."""
        made = np.zeros((len(raw), self.width), np.float32)
        mean, axes = self.mean.astype(np.float64), self.axes.astype(np.float64)
        for start in range(0, len(raw), ROWS):
            part = raw[start : start + ROWS].astype(np.float64)
            turned = (part - mean) @ axes
            length = np.linalg.norm(turned, axis=1, keepdims=True)
            there = part.any(1, keepdims=True) & (length > LEAST)
            unit = np.where(there, turned / np.maximum(length, LEAST), 0)
            made[start : start + ROWS] = np.rint(unit * GRID) / GRID
        return made


def fitted(back_end: str, raw: F32, width: int = WIDTH) -> Projection:
    """The `width` directions in which raw vectors [N, D] differ most (PCA); vectors of nothing do not count.

    A catalogue of one title has no directions: everything in it comes out as nothing.
    """
    there = raw[raw.any(1)].astype(np.float64)
    size = raw.shape[1]
    if len(there) == 0:
        return Projection(back_end, np.zeros(size, np.float32), np.zeros((size, width), np.float32))
    mean = there.mean(0)
    _, vectors = np.linalg.eigh((there - mean).T @ (there - mean) / len(there))
    axes = vectors[:, ::-1][:, :width]
    # The sign of a direction is anybody's choice: let its largest part be positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    return Projection(back_end, mean.astype(np.float32), np.ascontiguousarray(axes, dtype=np.float32))
