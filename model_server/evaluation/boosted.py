"""LightGBM's lambdarank on the worker's own counters: the strongest ranker that needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model_server.evaluation.ranker import Fitted, Score, Scores, Task, Tick

if TYPE_CHECKING:
    from model_server.training.examples import Examples

ROUNDS, PATIENCE = 400, 40
PARAMETERS: Mapping[str, Any] = {
    "objective": "lambdarank",
    "metric": "ndcg",
    "eval_at": [10],
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambdarank_truncation_level": 20,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


class Boosted:
    """Trees over the counters of each candidate; the number of trees is chosen on valid."""

    names: tuple[str, ...] = ("LightGBM lambdarank",)
    seeded = True
    scened = True

    def units(self, task: Task) -> int:  # noqa: ARG002
        """Trees at most."""
        return ROUNDS

    def fit(self, task: Task, seed: int, tick: Tick) -> Mapping[str, Fitted]:
        """Grow trees until valid no longer gains."""
        import lightgbm

        learn, valid = (_rows(part) for part in (task.dataset.learn, task.dataset.valid))
        first = lightgbm.Dataset(learn[0], learn[1], group=learn[2], params={"verbosity": -1}, free_raw_data=True)
        second = lightgbm.Dataset(valid[0], valid[1], group=valid[2], reference=first)
        grown = lightgbm.train(
            {**PARAMETERS, "seed": seed, "num_threads": task.threads},
            first,
            num_boost_round=ROUNDS,
            valid_sets=[second],
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False), lambda _: tick(1)],
        )
        return {self.names[0]: Fitted(_scoring(grown, task.threads), {"trees": int(grown.best_iteration)})}


def _rows(examples: Examples) -> tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.int64]]:
    """(counters, label, candidates of each request) of all real candidates of the requests that have a positive."""
    told = np.flatnonzero(examples.label.any(1))
    examples = examples.at(told)
    real = examples.batch.item >= 0
    group = real.sum(1)
    return examples.batch.counters[real], examples.label[real].astype(np.int8), group[group > 0]


def _scoring(grown: Any, threads: int) -> Score:
    def score(examples: Examples) -> Scores:
        flat = examples.batch.counters.reshape(-1, examples.batch.counters.shape[2])
        found: Scores = grown.predict(flat, num_threads=threads).reshape(examples.label.shape)
        return found

    return score
