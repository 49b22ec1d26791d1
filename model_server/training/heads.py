"""The story of the heads: what users did after a request, the cascade fitted to it, calibrated, cut into grades."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_server.evaluation.calibration import judged, logloss
from model_server.heads.cells import CellCalibration, calibrate, cells, count, platforms, slots
from model_server.heads.grades import LOOKED, NAMES, TAKEN, Chances, Cutoffs, cascade
from model_server.heads.heads import Grading, Heads
from model_server.heads.logistic import sigmoid
from model_server.training.cascade import Taught, fit_cascade
from model_server.training.importance import importance, propensity
from model_server.training.observed import Observed

if TYPE_CHECKING:
    from model_server.counters.batch import CountedBatch
    from model_server.selection import Calibration
    from model_server.training.dataset import Dataset
    from model_server.training.examples import Examples

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Scorer = Callable[["CountedBatch"], tuple[F32, F32]]
"""Scores f32[N, C] and hidden numbers f32[N, C, H] of a batch."""

CHUNK = 256
NONE, COMMON, BY_CELL = "none", "one for all", "by platform and slot"
FEW = 20
"""Acts of either class below which a step of the cascade is not learned."""


class Graded(NamedTuple):
    """The heads, and what they came to as plain numbers."""

    heads: Heads
    told: dict[str, Any]


class Seen(NamedTuple):
    """Real candidates of examples in one row: N of them, of request i64[N] (a row of the examples)."""

    request: NDArray[np.int64]
    score: F32
    hidden: F32
    share: F32
    grade: F64
    omega: F64
    label: NDArray[np.bool_]


class Ground:
    """What the cascade is fitted to and judged on: a dataset, a ranker's scores, and what was observed."""

    def __init__(self, dataset: Dataset, scorer: Scorer, observed: Observed) -> None:
        self.dataset, self._scorer, self._observed = dataset, scorer, observed
        self._settings = dataset.config.heads
        names = dataset.preparation.counters.names
        self._share = names.index("strong_rate")
        recorded, chosen = dataset.recorded, dataset.chosen
        end = int(np.searchsorted(recorded.columns.ts_ms, chosen.learned_until_ms))
        self._events = np.bincount(recorded.user[:end], minlength=len(recorded.user_ids))
        self._propensity = propensity(cells(dataset.declaration, dataset.learn.batch.scene), count(dataset.declaration))
        self.test_ms = int(chosen.moments.ts_ms[chosen.test[0]]) if len(chosen.test) else None

    def rows(self, examples: Examples, until_ms: int | None) -> NDArray[np.intp]:
        """Requests of which all that followed within the window is known at `until_ms`."""
        return np.flatnonzero(self._observed.complete(self.dataset.chosen.moments.ts_ms[examples.request], until_ms))

    def parts(self, examples: Examples, rows: NDArray[np.intp]) -> Iterator[Seen]:
        """Everything about the real candidates of the requests at `rows`, some requests at a time."""
        moments, scene = self.dataset.chosen.moments, examples.batch.scene[rows]
        user, now_ms = moments.user[examples.request[rows]], moments.ts_ms[examples.request[rows]]
        grade = self._observed.grades(user, now_ms, examples.batch.item[rows]).astype(np.float64)
        share = self._propensity[cells(self.dataset.declaration, scene)]
        age_ms = now_ms.max(initial=0) - now_ms
        omega = importance(grade, age_ms, share, self._events[user], self._settings.importance)
        for start in range(0, len(rows), CHUNK):
            cut = slice(start, start + CHUNK)
            chosen = examples.at(rows[cut])
            score, hidden = self._scorer(chosen.batch)
            real, rate = chosen.batch.item >= 0, chosen.batch.counters[..., self._share]
            request = np.broadcast_to(start + np.arange(len(chosen))[:, None], real.shape)
            columns: tuple[Any, ...] = (request, score, hidden, rate, grade[cut], omega[cut], chosen.label)
            yield Seen._make(column[real] for column in columns)

    def seen(self, examples: Examples, rows: NDArray[np.intp]) -> Seen:
        """The same in one piece."""
        return _joined(self.parts(examples, rows))


def _joined(parts: Iterator[Seen]) -> Seen:
    columns: Iterator[Any] = zip(*parts, strict=True)
    return Seen._make(np.concatenate(column) for column in columns)


def fit_heads(dataset: Dataset, scorer: Scorer, platt: Calibration) -> Graded:
    """The cascade over a ranker's scores, without the side heads; where nobody acted, chances of `platt` and why."""
    settings = dataset.config.heads
    observed = Observed(dataset.recorded, dataset.declaration, settings.window_ms)
    ground = Ground(dataset, scorer, observed)
    learn_rows = ground.rows(dataset.learn, ground.test_ms)[-settings.lists :]
    valid_rows = ground.rows(dataset.valid, ground.test_ms)
    learn, valid = ground.seen(dataset.learn, learn_rows), ground.seen(dataset.valid, valid_rows)
    negatives = [
        float((~part.label).sum()) / max(len(rows), 1) for part, rows in ((learn, learn_rows), (valid, valid_rows))
    ]
    thinned = max(negatives[1] / max(negatives[0], 1.0), 1.0)
    grading, told = _grading(learn, valid, thinned, platt, dataset)
    heads = Heads(grading, window_ms=settings.window_ms)
    valid_cells = cells(dataset.declaration, dataset.valid.batch.scene[valid_rows])
    if told["acts"] == "learned":
        calibrations, told["calibration"] = _calibrated(heads, valid, valid_cells, count(dataset.declaration))
        heads = replace(heads, calibrations=calibrations)
        heads = replace(heads, cutoffs=_cutoffs(valid, settings.recommended_lift, settings.best_lift))
    examples, part, until_ms = (
        (dataset.valid, "valid", ground.test_ms) if dataset.test is None else (dataset.test, "test", None)
    )
    rows = ground.rows(examples, until_ms)
    told |= {
        "window_ms": settings.window_ms,
        "requests": {"learn": len(learn_rows), "valid": len(valid_rows), "judged": len(rows)},
        "negatives weigh": thinned,
        "cutoffs": {"recommended": heads.cutoffs.recommended, "best": heads.cutoffs.best},
        "measured on": part,
        **_judged(ground, heads, examples, rows),
    }
    return Graded(heads, told)


def _grading(
    learn: Seen, valid: Seen, thinned: float, platt: Calibration, dataset: Dataset
) -> tuple[Grading, dict[str, Any]]:
    """The logits, guarded: with the hidden numbers only where the likelihood on valid is better for them."""
    acted = [part.grade >= LOOKED for part in (learn, valid)]
    if min(_rarer(part) for part in acted) < FEW:
        alone = Heads.untrained(platt.slope, platt.shift).grading
        return alone, {"acts": "prior", "best": "share of the item"}
    strong = [part.grade[part.grade >= LOOKED] >= TAKEN for part in (learn, valid)]
    learned = min(_rarer(part) for part in strong) >= FEW
    taught = Taught(
        learn.score, learn.hidden, learn.grade, np.where(learn.label, 1.0, thinned), learn.omega, best=learned
    )
    found = {
        name: fit_cascade(part, dataset.config.heads)
        for name, part in (
            ("score", taught._replace(hidden=learn.hidden[:, :0])),
            *((("score and hidden layer", taught),) if learn.hidden.shape[1] else ()),
        )
    }
    losses = {name: _loss(grading, valid) for name, grading in found.items()}
    kept = min(losses, key=lambda name: losses[name])
    grading = found[kept]
    if not learned:
        everything = np.concatenate(strong)
        rate = (everything.sum() + 1) / (len(everything) + 2)
        shift = np.array([grading.shift[0], np.log(rate / (1 - rate))])
        slope = np.array([grading.slope[0], 0.0])
        weights = grading.weights * np.array([1.0, 0.0])
        grading = Grading(slope, shift, weights, of_item=not everything.any())
    best = "learned" if learned else "share of the item" if grading.of_item else "rate"
    return grading, {"acts": "learned", "best": best, "logits from": kept, "logloss on valid": losses}


def _rarer(label: NDArray[np.bool_]) -> int:
    return int(min(label.sum(), len(label) - label.sum()))


def _loss(grading: Grading, seen: Seen) -> float:
    """Log loss of the cascade at its best temperature and shift, which come later."""
    first, _ = grading(seen.score, seen.hidden, seen.share)
    acted = (seen.grade >= LOOKED).astype(np.float64)
    nowhere = np.zeros(len(first), np.int64)
    calibrated = calibrate(first, acted, nowhere, seen.request, 1)(first, nowhere)
    return logloss(cascade(calibrated, calibrated).rec.astype(np.float64), acted)


def _calibrated(
    heads: Heads, valid: Seen, cell: NDArray[np.int64], size: int
) -> tuple[tuple[CellCalibration, CellCalibration], dict[str, str]]:
    """The calibrations of both steps, and how each was done."""
    first, second = heads.grading(valid.score, valid.hidden, valid.share)
    acted = valid.grade >= LOOKED
    own, request = cell[valid.request], valid.request
    steps = (
        Step(first, acted.astype(np.float64), own, request),
        Step(second[acted], (valid.grade[acted] >= TAKEN).astype(np.float64), own[acted], request[acted]),
    )
    (one, how), (two, then) = (guarded(step, size) for step in steps)
    return (one, two), {"act": how, "strong act": then}


class Step(NamedTuple):
    """Logits f64[N] of one step of the cascade, what came of them, and the cell and request (in time order) of each."""

    z: F64
    label: F64
    cell: NDArray[np.int64]
    request: NDArray[np.int64]

    def at(self, rows: NDArray[np.bool_]) -> Step:
        """Some of them."""
        return Step._make(part[rows] for part in self)

    def calibrated(self, how: str, size: int) -> CellCalibration:
        """By the cells, by one for all of them, or not at all."""
        if how == NONE:
            return CellCalibration.none(size)
        cell = self.cell if how == BY_CELL else np.zeros_like(self.cell)
        found = calibrate(self.z, self.label, cell, self.request, size)
        if how == BY_CELL:
            return found
        return CellCalibration(np.full(size, found.slope[0]), np.full(size, found.shift[0]))


def guarded(step: Step, size: int) -> tuple[CellCalibration, str]:
    """The calibration that is best on the newer half of the requests after a fit on the older, fitted on both.

    What moved between the halves will move again: then logits as they are, or one calibration for all, do better.
    """
    if len(step.z) == 0:
        return CellCalibration.none(size), NONE
    half = np.median(step.request)
    old, new = step.at(step.request <= half), step.at(step.request > half)
    if min(len(new.z), len(old.z)) == 0:
        return CellCalibration.none(size), NONE
    loss = {
        how: logloss(sigmoid(old.calibrated(how, size)(new.z[:, None], new.cell)[:, 0]), new.label)
        for how in (NONE, COMMON, BY_CELL)
    }
    how = min(loss, key=lambda name: loss[name])
    return step.calibrated(how, size), how


def _cutoffs(valid: Seen, recommended: float, best: float) -> Cutoffs:
    """Where a candidate is so many times likelier than one drawn from the list at random.

    One act in ten is Recommended and one strong act in two a Best Match whatever the others are.
    """
    acted, strongly = float((valid.grade >= LOOKED).mean()), float((valid.grade >= TAKEN).mean())
    return Cutoffs(min(recommended * acted, 0.1), min(best * strongly, 0.5) if strongly > 0 else 1.0)


def _judged(ground: Ground, heads: Heads, examples: Examples, rows: NDArray[np.intp]) -> dict[str, Any]:
    """Figures before and after calibration, and what became of each grade."""
    declaration, scene = ground.dataset.declaration, examples.batch.scene[rows]
    own, plain = cells(declaration, scene), replace(heads, calibrations=None)
    parts: list[Seen] = []
    raw: list[Chances] = []
    calibrated: list[Chances] = []
    for part in ground.parts(examples, rows):
        for one, found in ((plain, raw), (heads, calibrated)):
            found.append(cascade(*one.logits(part.score, part.hidden, part.share, own[part.request])))
        parts.append(part._replace(hidden=part.hidden[:, :0]))
    seen = _joined(iter(parts))
    before, after = (Chances(*(np.concatenate(c) for c in zip(*found, strict=True))) for found in (raw, calibrated))
    fields = {"platform": platforms(declaration, scene), "slot": slots(declaration, scene)}
    codes = {name: code[seen.request] for name, code in fields.items()}
    return {
        "uncalibrated": judged(before, seen.grade, seen.omega, codes),
        "calibrated": judged(after, seen.grade, seen.omega, codes),
        "grades": _grades(heads.cutoffs.grade(after), seen),
    }


def _grades(grade: NDArray[np.uint8], seen: Seen) -> dict[str, Any]:
    """Of each grade its share of all candidates and of the best of each request, and how often it was right."""
    order = np.lexsort((-seen.score, seen.request))
    best = order[np.flatnonzero(np.diff(seen.request[order], prepend=-1))]
    told: dict[str, Any] = {}
    for code, name in enumerate(NAMES):
        own = seen.grade[grade == code]
        told[name] = {
            "share": len(own) / max(len(grade), 1),
            "share of the best": float((grade[best] == code).mean()),
            "acted": float((own >= LOOKED).mean()) if len(own) else None,
            "strongly": float((own >= TAKEN).mean()) if len(own) else None,
        }
    return told
