"""Cells of platform and slot of the day, and a calibration for each, drawn towards the common one where it is small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.heads.logistic import F64, fit, information

if TYPE_CHECKING:
    from streams.features.declaration import Declaration

I64 = NDArray[np.int64]

PLATFORM = "device"
SLOTS = ("unknown", "night", "morning", "afternoon", "evening")
SLOT_HOURS = 6
SHRINK = 100.0
"""A cell of so many requests is drawn half way from the common calibration to its own."""
STEEPEST, FLATTEST = 20.0, 0.05


def slots(declaration: Declaration, scene: NDArray[np.uint8]) -> I64:
    """The slot i64[B] of scenes u8[B, S]: a quarter of the local day, 0 where the hour is unknown."""
    hour = scene[:, declaration.scene_names.index("hour")].astype(np.int64)
    return np.where(hour > 0, 1 + (hour - 1) // SLOT_HOURS, 0)


def platforms(declaration: Declaration, scene: NDArray[np.uint8]) -> I64:
    """The code of the platform i64[B] of scenes u8[B, S]; 0 unknown, or where the declaration leaves the field out."""
    if PLATFORM not in declaration.scene_names:
        return np.zeros(len(scene), np.int64)
    return scene[:, declaration.scene_names.index(PLATFORM)].astype(np.int64)


def count(declaration: Declaration) -> int:
    """How many cells there are."""
    size = declaration.size_of(PLATFORM) if PLATFORM in declaration.scene_names else 1
    return size * len(SLOTS)


def cells(declaration: Declaration, scene: NDArray[np.uint8]) -> I64:
    """The cell i64[B] of scenes u8[B, S], below `count`."""
    return platforms(declaration, scene) * len(SLOTS) + slots(declaration, scene)


@dataclass(frozen=True)
class CellCalibration:
    """A logit z of cell c is calibrated as slope[c] * z + shift[c]; both f64[cells], slope above 0.

    1 / slope is the temperature. Within a cell the order of logits stays.
    """

    slope: F64
    shift: F64

    @classmethod
    def none(cls, count: int) -> CellCalibration:
        """Logits as they are."""
        return cls(np.ones(count), np.zeros(count))

    def __call__(self, z: NDArray[np.floating], cell: I64) -> F64:
        """Calibrated logits of z [B, ...] of requests in cells i64[B]."""
        wide = (slice(None), *(None,) * (z.ndim - 1))
        calibrated: F64 = self.slope[cell][wide] * z + self.shift[cell][wide]
        return calibrated


def calibrate(z: F64, label: F64, cell: I64, request: I64, count: int) -> CellCalibration:
    """Temperature and shift of each cell from logits z f64[N] of candidates with labels f64[N] in 0..1.

    cell i64[N]; request i64[N] says which candidates are of one request. First one calibration for all, then each cell
    under a prior that weighs as much as `SHRINK` average requests. A single class leaves the logits as they are.
    """
    if len(z) == 0 or label.min() == label.max():
        return CellCalibration.none(count)
    design = np.stack((z, np.ones_like(z)), axis=1)
    common = _bounded(fit(design, label, np.array([1.0, 0.0]), np.eye(2)))
    prior = information(design, common) * SHRINK / len(np.unique(request)) + 1e-9 * np.eye(2)
    slope, shift = np.full(count, common[0]), np.full(count, common[1])
    for each in np.unique(cell).tolist():
        own = cell == each
        slope[each], shift[each] = _bounded(fit(design[own], label[own], common, prior))
    return CellCalibration(slope, shift)


def _bounded(found: F64) -> F64:
    return np.array([np.clip(found[0], FLATTEST, STEEPEST), found[1]])
