"""All heads of one ranker: from its scores of the best candidates to grades and chances. Read this file first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_server.heads.cells import CellCalibration, cells, count
from model_server.heads.grades import Cutoffs, cascade
from model_server.heads.logistic import F64, logit
from model_server.heads.people import person_columns, width
from model_server.heads.sides import COMES, OPENS, OPTS_OUT, Side

if TYPE_CHECKING:
    from streams.features.declaration import Declaration
    from streams.features.view import UserView

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
DAY_MS = 86_400_000


class Asked(NamedTuple):
    """The best K candidates of U users: score f32[U, K], hidden f32[U, K, H] of the counter net (H 0 where none).

    share f32[U, K]: share of the item's events that are strong; view and scene u8[U, S] of the users.
    """

    score: F32
    hidden: F32
    share: F32
    view: UserView
    scene: NDArray[np.uint8]


class Answers(NamedTuple):
    """Chances f32[U, K] in 0..1 and grades u8[U, K]; `best` never above `rec`."""

    rec: F32
    best: F32
    grade: NDArray[np.uint8]
    opens: F32
    opts_out: F32
    anyway: F32


@dataclass(frozen=True)
class Grading:
    """The logits of the cascade: z = score * slope + hidden @ weights + shift.

    slope, shift f64[2]; weights f64[H, 2]. `of_item`: z2 is not learned but the strong share of the item's events.
    """

    slope: F64
    shift: F64
    weights: F64 = field(default_factory=lambda: np.empty((0, 2)))
    of_item: bool = True

    def __call__(self, score: F32, hidden: F32, share: F32) -> tuple[F64, F64]:
        """Logits z1 and z2 f64[U, K] before calibration."""
        z = score.astype(np.float64)[..., None] * self.slope + self.shift
        if len(self.weights):
            z = z + hidden.astype(np.float64) @ self.weights
        return z[..., 0], logit(share) if self.of_item else z[..., 1]


@dataclass(frozen=True)
class Heads:
    """What a bundle keeps of the heads. `window_ms`: within which an act was put down to a moment.

    `calibrations` of z1 and z2 by platform and slot; None for logits as they are.
    """

    grading: Grading
    cutoffs: Cutoffs = field(default_factory=Cutoffs)
    calibrations: tuple[CellCalibration, CellCalibration] | None = None
    window_ms: int = DAY_MS
    opens: Side = field(default_factory=lambda: Side.assumed(OPENS))
    opts_out: Side = field(default_factory=lambda: Side.assumed(OPTS_OUT))
    comes: Side = field(default_factory=lambda: Side.assumed(COMES))

    @classmethod
    def untrained(cls, slope: float, shift: float) -> Heads:
        """Before any training: acts as likely as a score is calibrated, strong ones by the item's share, priors."""
        return cls(Grading(np.array([slope, 0.0]), np.array([shift, 0.0])))

    def with_sides(self, sides: Mapping[str, Side]) -> Heads:
        """The same with other side heads, by the names of `SIDES`."""
        return replace(self, opens=sides["opens"], opts_out=sides["opts_out"], comes=sides["comes"])

    def logits(self, score: F32, hidden: F32, share: F32, cell: I64) -> tuple[F64, F64]:
        """Calibrated z1 and z2 f64[N, ...] of scores [N, ...] of requests in cells i64[N]."""
        first, second = self.grading(score, hidden, share)
        if self.calibrations is None:
            return first, second
        return self.calibrations[0](first, cell), self.calibrations[1](second, cell)

    def answer(self, declaration: Declaration, asked: Asked) -> Answers:
        """Everything about the candidates asked for."""
        cell = cells(declaration, asked.scene)
        first, second = self.logits(asked.score, asked.hidden, asked.share, cell)
        chances = cascade(first, second)
        people = person_columns(declaration, asked.view, asked.scene)
        return Answers(
            rec=chances.rec.astype(np.float32),
            best=chances.best.astype(np.float32),
            grade=self.cutoffs.grade(chances),
            opens=self.opens.of_candidates(people, first).astype(np.float32),
            opts_out=_for_all(self.opts_out(people), first),
            anyway=_for_all(self.comes(people), first),
        )

    def fits(self, declaration: Declaration) -> bool:
        """Whether every part has the sizes of this declaration."""
        own = width(declaration)
        return all(
            len(each.slope) == len(each.shift) == count(declaration) for each in self.calibrations or ()
        ) and all(
            side.width in {None, wanted}
            for side, wanted in ((self.opens, own + 1), (self.opts_out, own), (self.comes, own))
        )

    def document(self) -> dict[str, Any]:
        """Plain numbers, for a bundle."""
        grading = self.grading
        return {
            "window_ms": self.window_ms,
            "cutoffs": {"recommended": self.cutoffs.recommended, "best": self.cutoffs.best},
            "grading": {
                "slope": grading.slope.tolist(),
                "shift": grading.shift.tolist(),
                "weights": grading.weights.tolist(),
                "of_item": grading.of_item,
            },
            "calibrations": None
            if self.calibrations is None
            else [{"slope": each.slope.tolist(), "shift": each.shift.tolist()} for each in self.calibrations],
            "sides": {name: getattr(self, name).document() for name in SIDES},
        }

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Heads:
        """What a bundle stored. Raises TypeError, KeyError or ValueError on anything else."""
        grading, cutoffs = stored["grading"], stored["cutoffs"]
        found = stored["calibrations"]
        calibrated = None if found is None else [CellCalibration(_row(c["slope"]), _row(c["shift"])) for c in found]
        return cls(
            grading=Grading(
                _row(grading["slope"]),
                _row(grading["shift"]),
                _row(grading["weights"]).reshape(-1, 2),
                bool(grading["of_item"]),
            ),
            cutoffs=Cutoffs(float(cutoffs["recommended"]), float(cutoffs["best"])),
            calibrations=None if calibrated is None else (calibrated[0], calibrated[1]),
            window_ms=int(stored["window_ms"]),
            **{name: Side.of(stored["sides"][name]) for name in SIDES},
        )


SIDES = ("opens", "opts_out", "comes")


def _for_all(chance: F64, like: F64) -> F32:
    """The chance f64[U] of each user for all its candidates."""
    return np.broadcast_to(chance[:, None], like.shape).astype(np.float32)


def _row(numbers: Any) -> F64:
    """Finite numbers f64; raises ValueError or TypeError on others."""
    row = np.array(numbers, np.float64)
    if not np.isfinite(row).all():
        message = "a number of the heads is not finite"
        raise ValueError(message)
    return row
