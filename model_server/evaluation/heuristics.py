"""Rankings without a model, computed from the log alone: what a ranker must be above to be worth its cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.evaluation.ranker import Fitted, Score, Scores, Task, Tick

if TYPE_CHECKING:
    from model_server.training.examples import Examples

I64 = NDArray[np.int64]
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SCENE_WINDOW_MS = 14 * DAY_MS
CODES = 256
"""Codes of a scene field fit in a byte."""


@dataclass(frozen=True)
class Heuristic:
    """A score by rule; where the rule has several settings, the best one on valid is taken."""

    name: str
    options: Callable[[Task], Mapping[str, Score]]
    scened: bool = False
    seeded: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Its own name."""
        return (self.name,)

    def units(self, task: Task) -> int:  # noqa: ARG002
        """One."""
        return 1

    def fit(self, task: Task, seed: int, tick: Tick) -> Mapping[str, Fitted]:  # noqa: ARG002
        """Choose among the settings, if there are several."""
        options = self.options(task)
        key, score = task.best(options) if len(options) > 1 else next(iter(options.items()))
        tick(1)
        return {self.name: Fitted(score, {"setting": key} if len(options) > 1 else {})}


def _items(examples: Examples) -> I64:
    return np.maximum(examples.batch.item, 0).astype(np.int64)


def _popular(window_ms: int | None) -> Callable[[Task], Mapping[str, Score]]:
    def options(task: Task) -> Mapping[str, Score]:
        return {"": lambda e: task.by_item.count(_items(e), task.now_ms(e)[:, None], window_ms)}

    return options


def _last_seen(task: Task) -> Mapping[str, Score]:
    return {"": lambda e: task.by_item.last_ms(_items(e), task.now_ms(e)[:, None])}


def _frequent(task: Task) -> Mapping[str, Score]:
    return {"": lambda e: task.by_pair.count(task.pair(e), task.now_ms(e)[:, None])}


def _recent(task: Task) -> Mapping[str, Score]:
    return {"": lambda e: task.by_pair.last_ms(task.pair(e), task.now_ms(e)[:, None])}


def _decayed(task: Task) -> Mapping[str, Score]:
    def halved(days: int) -> Score:
        return lambda e: task.by_pair.decayed(task.pair(e), task.now_ms(e)[:, None], days * DAY_MS)

    return {f"half-life {days} d": halved(days) for days in (1, 7, 30)}


def _by_hour(task: Task) -> Mapping[str, Score]:
    """What was popular at this hour of the day, one more and one less, over two weeks."""
    count = _under(task, "hour")

    def score(examples: Examples) -> Scores:
        code = examples.batch.scene[:, task.dataset.declaration.scene_names.index("hour")].astype(np.int64)
        near = [1 + (code - 1 + step) % 24 for step in (-1, 0, 1)]
        return np.where((code > 0)[:, None], sum(count(examples, c) for c in near), 0)

    return {"": score}


def _scene(task: Task) -> Mapping[str, Score]:
    """What was popular under each known field of the scene over two weeks, as the sum of the logs."""
    names = task.dataset.declaration.delta_fields
    counts = {name: _under(task, name) for name in names}

    def score(examples: Examples) -> Scores:
        total = np.zeros(examples.label.shape)
        for name, count in counts.items():
            code = examples.batch.scene[:, task.dataset.declaration.scene_names.index(name)].astype(np.int64)
            total += np.where((code > 0)[:, None], np.log1p(count(examples, code)), 0)
        return total

    return {"": score}


def _under(task: Task, field: str) -> Callable[[Examples, I64], Scores]:
    """Counts of the candidates over two weeks under a code i64[N] of a scene field."""
    column = task.dataset.declaration.scene_names.index(field)
    codes = task.dataset.recorded.columns.codes[task.acts, column].astype(np.int64)
    before = task.before(task.item * CODES + codes)

    def count(examples: Examples, code: I64) -> Scores:
        key = _items(examples) * CODES + code[:, None]
        return before.count(key, task.now_ms(examples)[:, None], SCENE_WINDOW_MS).astype(np.float64)

    return count


def _counted(*names: str) -> Callable[[Task], Mapping[str, Score]]:
    """Counters of the worker, taken as they are."""

    def options(task: Task) -> Mapping[str, Score]:
        def score(name: str) -> Score:
            return lambda e: task.counter(e, name)

        return {name: score(name) for name in names}

    return options


HEURISTICS: tuple[Heuristic, ...] = (
    Heuristic("popularity", _popular(None)),
    Heuristic("popularity 1 h", _popular(HOUR_MS)),
    Heuristic("popularity 24 h", _popular(DAY_MS)),
    Heuristic("popularity 7 d", _popular(7 * DAY_MS)),
    Heuristic("popularity by hour", _by_hour, scened=True),
    Heuristic("last seen by anyone", _last_seen),
    Heuristic("scene popularity", _scene, scened=True),
    Heuristic("user frequency", _frequent),
    Heuristic("user frequency, decayed", _decayed),
    Heuristic("user recency", _recent),
    Heuristic("co-visitation", _counted("together_sum", "together_max", "together_last")),
    Heuristic("V-SkNN", _counted("sessions_like")),
)
