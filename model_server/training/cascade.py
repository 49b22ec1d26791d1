"""The fit of the cascade's logits: cross entropy of both steps plus a little of the article's objective L."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from model_server.heads.grades import LOOKED, TAKEN
from model_server.heads.heads import DAY_MS, Grading
from model_server.training.importance import ImportanceSettings

if TYPE_CHECKING:
    from collections.abc import Callable

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class HeadSettings:
    """How heads are learned. An act counts for moments up to `window_ms` before it.

    `entropy` and `squared` weigh the cascade's cross entropy and L; `ridge` the squared weights of the hidden numbers.
    `lists`: newest lists at most. `recommended_lift`, `best_lift`: how many times likelier than a candidate drawn from
    the list at random one must be, to act and to act strongly. `people`, `pushes`: moments at most for the side heads.
    """

    window_ms: int = DAY_MS
    entropy: float = 1.0
    squared: float = 0.1
    ridge: float = 1e-4
    steps: int = 100
    lists: int = 4_000
    recommended_lift: float = 5.0
    best_lift: float = 50.0
    people: int = 3_000
    pushes: int = 2_000
    importance: ImportanceSettings = field(default_factory=ImportanceSettings)


class Taught(NamedTuple):
    """N candidates: score f32[N], hidden f32[N, H], observed grade f64[N] in 0..1.

    weight f64[N]: how many candidates each stands for; omega f64[N]: what it counts in L. `best`: learn z2 too.
    """

    score: F32
    hidden: F32
    grade: F64
    weight: F64
    omega: F64
    best: bool


def fit_cascade(taught: Taught, settings: HeadSettings) -> Grading:
    """Logits from score and hidden numbers, by L-BFGS over all candidates at once: no chance has a part in it."""
    columns = np.concatenate((taught.score[:, None], taught.hidden), axis=1, dtype=np.float64)
    mean, deviation = columns.mean(0), columns.std(0)
    scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0.0)
    x = torch.from_numpy(((columns - mean) * scale).astype(np.float32))
    weights, shift = torch.zeros((x.shape[1], 2)), torch.zeros(2)
    rate = float((taught.weight * (taught.grade >= LOOKED)).sum() / taught.weight.sum())
    shift[0] = float(np.log(rate / (1 - rate)))
    free = [weights.requires_grad_(), shift.requires_grad_()]
    objective = _objective(taught, settings, x)
    optimiser = torch.optim.LBFGS(
        free, max_iter=settings.steps, tolerance_grad=1e-7, tolerance_change=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = objective(weights, shift)
        torch.autograd.backward(loss)
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    found, start = weights.detach().numpy().astype(np.float64), shift.detach().numpy().astype(np.float64)
    spread = found * scale[:, None]
    return Grading(spread[0], start - mean @ spread, spread[1:], of_item=False)


def _objective(taught: Taught, settings: HeadSettings, x: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    acted = torch.from_numpy((taught.grade >= LOOKED).astype(np.float32))
    strongly = torch.from_numpy((taught.grade >= TAKEN).astype(np.float32))
    grade = torch.from_numpy(taught.grade.astype(np.float32))
    weight = torch.from_numpy((taught.weight / taught.weight.sum()).astype(np.float32))
    counted = taught.weight * taught.omega
    omega = torch.from_numpy((counted / counted.sum()).astype(np.float32))
    usual = strongly.sum() / acted.sum().clamp(min=1)

    def objective(weights: Tensor, shift: Tensor) -> Tensor:
        first, second = (x @ weights + shift).unbind(1)
        loss = settings.ridge * weights[1:].square().sum()
        if settings.entropy > 0:
            each = binary_cross_entropy_with_logits(first, acted, reduction="none")
            if taught.best:
                each = each + acted * binary_cross_entropy_with_logits(second, strongly, reduction="none")
            loss = loss + settings.entropy * (weight * each).sum()
        if settings.squared > 0:
            rec = torch.sigmoid(first)
            best = rec * (torch.sigmoid(second) if taught.best else usual)
            expected = LOOKED * rec + (TAKEN - LOOKED) * best
            loss = loss + settings.squared * (omega * (expected - grade).square()).sum()
        return loss

    return objective
