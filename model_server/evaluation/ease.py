"""EASE (Steck 2019): a linear item-item model in closed form, built anew as often as the co-visited items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import inv
from scipy.sparse import csr_array

from model_server.evaluation.ranker import Fitted, Scores, Task, Tick

if TYPE_CHECKING:
    from model_server.training.examples import Examples

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
RIDGES = (30.0, 300.0, 3_000.0)
OWN = (0.0, 1.0)
MOST_ITEMS = 4_000
"""The inverse costs the cube of the items: of a larger catalogue only the most popular ones have weights."""
MOST_RENEWALS = 6


class Ease:
    """Scores a candidate by the weights of the user's newest distinct items, as the stream keeps them."""

    names: tuple[str, ...] = ("EASE",)
    seeded = False
    scened = False

    def units(self, task: Task) -> int:
        """Every inverse: one a ridge, and the renewals."""
        return len(RIDGES) + len(renewals(task)) - 1

    def fit(self, task: Task, seed: int, tick: Tick) -> Mapping[str, Fitted]:  # noqa: ARG002
        """Choose the ridge on valid with weights from train, then build those that serve the test."""
        start_ms = renewals(task)
        options: dict[tuple[float, float], Weights] = {}
        for ridge in RIDGES:
            weights = Weights.until(task, int(start_ms[0]), ridge)
            options |= {(ridge, own): weights.having(own) for own in OWN}
            tick(1)
        (ridge, own), _ = task.best({key: weights.score for key, weights in options.items()})
        serving = [options[ridge, own]]
        for until_ms in start_ms[1:].tolist():
            serving.append(Weights.until(task, until_ms, ridge).having(own))
            tick(1)
        return {self.names[0]: Fitted(Renewed(start_ms, serving, task), {"ridge": ridge, "own items": own})}


class Weights:
    """Item-item weights f32[K, K] of the K items that have some; number i64[M] of every item, -1 for none.

    `own`: what an item of the user itself is worth; EASE gives nothing, which loses where users come back to items.
    """

    def __init__(self, weight: F32, number: I64, own: float = 0.0) -> None:
        self._weight, self._number, self._own = weight, number, own

    def having(self, own: float) -> Weights:
        """The same weights with another worth of the user's own items."""
        return Weights(self._weight, self._number, own)

    @classmethod
    def until(cls, task: Task, until_ms: int, ridge: float) -> Weights:
        """From who did something with what before `until_ms`."""
        recorded = task.dataset.recorded
        acts = task.acts[: np.searchsorted(recorded.columns.ts_ms[task.acts], until_ms)]
        items, users = len(recorded.item_ids), len(recorded.user_ids)
        counts = np.bincount(recorded.item[acts], minlength=items)
        held = np.sort(np.lexsort((np.arange(items), -counts))[:MOST_ITEMS])
        held = held[counts[held] > 0]
        number = np.full(items, -1)
        number[held] = np.arange(len(held))
        known = number[recorded.item[acts]] >= 0
        pair = np.unique(recorded.user[acts][known] * max(len(held), 1) + number[recorded.item[acts][known]])
        user, column = pair // max(len(held), 1), pair % max(len(held), 1)
        taken = csr_array((np.ones(len(pair), np.float32), (user, column)), shape=(users, len(held)))
        return cls(closed_form((taken.T @ taken).toarray(), ridge), number)

    def score(self, examples: Examples) -> Scores:
        """Sum of the weights from the user's newest distinct items to each candidate."""
        past, item = examples.batch.past.item, examples.batch.item
        found = np.zeros(item.shape, np.float32)
        number = np.append(self._number, -1)
        for row in range(len(item)):
            own = np.unique(number[past[row]])
            own = own[own >= 0]
            candidate = number[item[row]]
            weights = self._weight[np.ix_(own, np.maximum(candidate, 0))].sum(0)
            found[row] = np.where(candidate >= 0, weights + self._own * np.isin(candidate, own), 0)
        return found


def closed_form(gram: F32, ridge: float) -> F32:
    """Weights that tell each item from the others: B = I - P diag(1 / diag P), P = (gram + ridge I)^-1."""
    if len(gram) == 0:
        return np.zeros((1, 1), np.float32)
    inverse = inv(gram.astype(np.float64) + ridge * np.eye(len(gram)), check_finite=False, overwrite_a=True)
    weights: F32 = (-inverse / np.diag(inverse)).astype(np.float32)
    np.fill_diagonal(weights, 0)
    return weights


class Renewed:
    """Weights of several moments; a request is scored by the newest ones before it."""

    def __init__(self, start_ms: I64, weights: Sequence[Weights], task: Task) -> None:
        self._start_ms, self._weights, self._task = start_ms, weights, task

    def __call__(self, examples: Examples) -> Scores:
        """Scores f32[N, C]; requests are in time order."""
        number = np.searchsorted(self._start_ms, self._task.now_ms(examples), side="right") - 1
        rows = [np.flatnonzero(number == n) for n in np.unique(number)]
        return np.concatenate([self._weights[number[at[0]]].score(examples.at(at)) for at in rows])


def renewals(task: Task) -> I64:
    """When weights are built: at the end of train, at the test, then as often as the co-visited items, but few."""
    chosen, stamps = task.dataset.chosen, task.dataset.chosen.moments.ts_ms
    first = [chosen.learned_until_ms]
    if len(chosen.test):
        begin, end = int(stamps[chosen.test[0]]), int(stamps[chosen.test[-1]])
        every_ms = task.dataset.config.renew_every_ms(int(stamps[-1] - stamps[chosen.train[0]]))
        every_ms = max(every_ms, (end - begin) // MOST_RENEWALS + 1)
        first += range(begin, end + 1, every_ms)
    return np.array(first)
