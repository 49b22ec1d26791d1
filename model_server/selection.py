"""From scores to what a ranker answers: the best items of each user, their grades and chances, why they are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_server.heads.heads import Asked, Heads
from model_server.scoring import BASE, Scored

if TYPE_CHECKING:
    from model_server.retrieval.merge import Candidates
    from model_server.retrieval.pairs import F32, I32
    from model_server.retrieval.shared import Shared
    from model_server.scoring import F64, Requests
    from streams.features.declaration import Declaration

SHOWN = 20
BUYS_PRIOR, BUYS_WEIGHT = 1.0, 20.0


@dataclass(frozen=True)
class Calibration:
    """p = sigmoid(slope * score + shift): what a score means as the chance that the user takes the item."""

    slope: float
    shift: float

    def chance(self, score: F32) -> F32:
        """Chances f32 of scores of any shape."""
        z = np.clip(self.logits(score), -30, 30)
        return (1 / (1 + np.exp(-z))).astype(np.float32)

    def logits(self, score: F32) -> F64:
        """Logits f64 of these chances."""
        z: F64 = self.slope * score.astype(np.float64) + self.shift
        return z

    def logit(self, owed: Mapping[str, float]) -> dict[str, float]:
        """Parts that sum to a score as parts that sum to the logit of its chance."""
        parts = {part: self.slope * share for part, share in owed.items()}
        return {**parts, BASE: parts.get(BASE, 0.0) + self.shift}


def fit_calibration(score: F32, real: NDArray[np.bool_], label: NDArray[np.bool_]) -> Calibration:
    """Slope (above zero) and shift that make the taken candidates likeliest (Platt), by Newton steps."""
    x, y = score[real].astype(np.float64), label[real].astype(np.float64)
    if len(x) == 0 or y.min() == y.max():
        return Calibration(1.0, -4.0)
    center, spread = float(x.mean()), float(x.std()) or 1.0
    design = np.stack(((x - center) / spread, np.ones_like(x)))
    weights = np.array([0.0, np.log(y.mean() / (1 - y.mean()))])
    for _ in range(25):
        p = 1 / (1 + np.exp(-np.clip(weights @ design, -30, 30)))
        gradient = design @ (p - y)
        curvature = (design * (p * (1 - p))) @ design.T + 1e-6 * np.eye(2)
        weights -= np.clip(np.linalg.solve(curvature, gradient), -2, 2)
    slope = max(float(weights[0]) / spread, 1e-6)
    return Calibration(slope, float(weights[1]) - slope * center)


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds spent, and tokens needed and computed."""

    retrieve_ms: float
    collate_ms: float
    forward_ms: float
    tokens: int = 0
    padded_tokens: int = 0


Owed = Callable[[int, int], dict[str, float]]
"""Of user u and place c among all candidates: what the score is owed to, by part; they sum to it."""

Hidden = Callable[[NDArray[np.intp]], "F32"]
"""What the counter net makes of the candidates at places [U, K]: f32[U, K, H], H 0 where no net serves."""


class Inside(NamedTuple):
    """What a ranker tells of its candidates beside their scores, when it is asked."""

    hidden: Hidden
    owed: Owed


@dataclass(frozen=True)
class Selection:
    """How one ranker's scores become its answers; `lists` (at most 32) are the names of those that find candidates."""

    declaration: Declaration
    lists: tuple[str, ...]
    calibration: Calibration
    heads: Heads

    def __call__(
        self, found: Candidates, score: F32, inside: Inside, requests: Requests, shared: Shared, timings: Timings
    ) -> Scored:
        """The best `SHOWN` of candidates [U, C] by scores f32[U, C]; ties by popularity, then the smaller item."""
        best = best_of(score, found.item, shared, SHOWN)
        item = np.take_along_axis(found.item, best, 1)
        own = np.nan_to_num(np.take_along_axis(score, best, 1))
        asked = Asked(own, inside.hidden(best), strong_share(shared, item), requests.view, requests.scene)
        answers = self.heads.answer(self.declaration, asked)
        lists = np.take_along_axis(found.near, best[:, :, None], 1) > 0
        bits = (lists << np.arange(len(self.lists), dtype=np.uint32)).sum(2, dtype=np.uint32)

        def shown(part: F32) -> F32:
            return np.where(item >= 0, part, np.float32(0))

        return Scored(
            item=item,
            p_open=shown(answers.opens),
            p_buy=shown(answers.best),
            p_optout=shown(answers.opts_out),
            p_rec=shown(answers.rec),
            p_best=shown(answers.best),
            p_anyway=shown(answers.anyway),
            grade=np.where(item >= 0, answers.grade, np.uint8(0)),
            final=shown(self.calibration.chance(own)),
            propensity=shown(_propensity(lists, self.lists, len(shared.offered()))),
            reasons=np.where(item >= 0, bits, np.uint32(0)),
            reason_names=self.lists,
            retrieve_ms=timings.retrieve_ms,
            collate_ms=timings.collate_ms,
            forward_ms=timings.forward_ms,
            tokens=timings.tokens,
            padded_tokens=timings.padded_tokens,
            because=lambda user, place: self.calibration.logit(inside.owed(user, int(best[user, place]))),
        )


def no_hidden(best: NDArray[np.intp]) -> F32:
    """For rankers without a net."""
    return np.empty((*best.shape, 0), np.float32)


def best_of(score: F32, item: I32, shared: Shared, count: int) -> NDArray[np.intp]:
    """Places [U, K] of the `count` best of candidates [U, C], as `evaluation.metrics.order` has them.

    Only what is not below the count-th greatest score of a user is put in order.
    """
    count = min(count, item.shape[1])
    shown = np.where((item >= 0) & np.isfinite(score), score, np.float32(-np.inf))
    least = np.partition(shown, item.shape[1] - count, axis=1)[:, item.shape[1] - count, None] if count else shown
    user, place = np.nonzero(shown >= least)
    own, of = shown[user, place], item[user, place]
    order = np.lexsort((of, -popularity_of(shared, of), -own, of < 0, user))
    rank = np.arange(len(user)) - np.searchsorted(user, np.arange(len(item)))[user]
    best = np.empty((len(item), count), np.intp)
    best[user[rank < count], rank[rank < count]] = place[order[rank < count]]
    return best


def popularity_of(shared: Shared, item: I32) -> F32:
    """Everybody's events with items of any shape, 0 for those that are newer than the shared lists."""
    return _known(shared, item, shared.totals).astype(np.float32)


def strong_share(shared: Shared, item: I32) -> F32:
    """Share of an item's events that are purchases and the like, pulled towards one in twenty."""
    strong, totals = _known(shared, item, shared.strong), _known(shared, item, shared.totals)
    return np.minimum((strong + BUYS_PRIOR) / (totals + BUYS_WEIGHT), 1.0).astype(np.float32)


def _known(shared: Shared, item: I32, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of items of any shape, 0 for those that are newer than the shared lists and for -1."""
    if not shared.size:
        return np.zeros(item.shape, np.int64)
    return np.where((item >= 0) & (item < shared.size), np.take(counts, item, mode="clip"), 0)


def _propensity(lists: NDArray[np.bool_], names: Sequence[str], offered: int) -> F32:
    """1, but for items that only the draw among `offered` items brought here: the chance of that draw."""
    from model_server.retrieval.retriever import EXPLORED, Quotas

    explored = lists[:, :, names.index(EXPLORED)] & (lists.sum(2) == 1)
    chance = np.float32(min(Quotas().explored / max(offered, 1), 1.0))
    return np.where(explored, chance, np.float32(1))
