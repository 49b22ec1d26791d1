"""What every ranker of the harness is: fitted on train, chosen on valid, it scores the candidates of requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_server.evaluation.before import Before
from model_server.evaluation.metrics import means, ranked

if TYPE_CHECKING:
    from model_server.evaluation.scene import Placebo
    from model_server.training.dataset import Dataset
    from model_server.training.examples import Examples

I64 = NDArray[np.int64]
Scores = NDArray[np.floating[Any]] | NDArray[np.int64]
Score = Callable[["Examples"], Scores]
"""Scores [N, C] of the candidates of N requests, higher is better; what padding scores does not matter."""
Tick = Callable[[int], object]
METRIC = "ndcg@10"


@dataclass(frozen=True)
class Fitted:
    """A ranker ready to score; `chosen`: settings taken on valid; `fit_s`: CPU seconds, None for those of the fit.

    `chances`: what its heads come to, where it has any.
    """

    score: Score
    chosen: Mapping[str, Any] = field(default_factory=dict)
    fit_s: float | None = None
    chances: Callable[[], Mapping[str, Any]] | None = None


class Ranker(Protocol):
    """One way to rank, or several that are fitted together.

    `seeded`: whether chance has a part in the fit, so that several seeds are judged. `scened`: whether the score looks
    at the scene of the request, so that its context AUC says something.
    """

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def seeded(self) -> bool: ...
    @property
    def scened(self) -> bool: ...

    def units(self, task: Task) -> int:
        """Upper bound of the ticks of a fit."""

    def fit(self, task: Task, seed: int, tick: Tick) -> Mapping[str, Fitted]:
        """Fit on train and choose on valid; one entry for each of `names`."""


class Task:
    """What rankers are fitted for: the examples of a log, and look-ups of what had happened before a request.

    `placebos`: train and valid with wrong scenes, by `scene.PLACEBOS`, where they are asked for.
    """

    def __init__(self, dataset: Dataset, threads: int = 1) -> None:
        self.dataset = dataset
        self.threads = threads
        self.placebos: dict[str, Placebo] = {}

    def value(self, score: Score) -> float:
        """Mean NDCG@10 on valid."""
        valid = self.dataset.valid
        batch = valid.batch
        found = ranked(score(valid), self.dataset.popularity(valid), batch.item, valid.label, valid.wanted)
        return means(found)[METRIC]

    def best(self, options: Mapping[Any, Score]) -> tuple[Any, Score]:
        """The option that is best on valid, the first one of equals."""
        key = max(options, key=lambda option: self.value(options[option]))
        return key, options[key]

    def user(self, examples: Examples) -> I64:
        """The user of each request, i64[N]."""
        return self.dataset.chosen.moments.user[examples.request]

    def now_ms(self, examples: Examples) -> I64:
        """The moment of each request, i64[N]."""
        return self.dataset.chosen.moments.ts_ms[examples.request]

    def counter(self, examples: Examples, name: str) -> NDArray[np.float32]:
        """The counter called `name` of each candidate, f32[N, C]."""
        found: NDArray[np.float32] = examples.batch.counters[..., self.dataset.preparation.counters.names.index(name)]
        return found

    @cached_property
    def acts(self) -> I64:
        """Positions in the log of everything that users did with items."""
        kinds = self.dataset.declaration.kinds
        return np.flatnonzero(np.array([k.active and k.item for k in kinds])[self.dataset.recorded.columns.kind])

    def before(self, key: I64) -> Before:
        """Look-ups of what users did, by a key of each of `acts`."""
        return Before(key, self.dataset.recorded.columns.ts_ms[self.acts])

    @cached_property
    def item(self) -> I64:
        """The item of each of `acts`."""
        return self.dataset.recorded.item[self.acts].astype(np.int64)

    @cached_property
    def by_item(self) -> Before:
        """What anybody did with an item."""
        return self.before(self.item)

    @cached_property
    def by_user(self) -> Before:
        """What a user did with anything."""
        return self.before(self.dataset.recorded.user[self.acts])

    @cached_property
    def by_pair(self) -> Before:
        """What a user did with an item; see `pair`."""
        return self.before(self.dataset.recorded.user[self.acts] * len(self.dataset.recorded.item_ids) + self.item)

    def pair(self, examples: Examples) -> I64:
        """The key in `by_pair` of each candidate, i64[N, C]."""
        return self.user(examples)[:, None] * len(self.dataset.recorded.item_ids) + np.maximum(examples.batch.item, 0)
