"""The story of an evaluation: one set of as-of requests, every ranker fitted, judged and compared. Read this first."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model_server.evaluation.exposure import coverage, diversity, gini
from model_server.evaluation.metrics import CUTOFF, means, of_lists, order
from model_server.evaluation.ranker import Fitted, Ranker, Score, Task
from model_server.evaluation.scene import PLACEBOS, Contrast, Placebo, contrasts, placebo
from model_server.ranker.cores import idle_threads
from model_server.ranker.device import use_threads
from model_server.training.dataset import Dataset, TrainingError, build_dataset

if TYPE_CHECKING:
    from model_server.training.config import TrainConfig
    from model_server.training.examples import Examples
    from model_server.training.progress import Progress
    from model_server.training.recorded import Recorded
    from streams.features.declaration import Declaration

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


NO_TEST = "no request is left to test on: raise --test, the newest share of the requests kept for the test"


class EvaluationError(ValueError):
    """A log that rankers cannot be told apart on; the text says what is missing."""


@dataclass(frozen=True)
class EvaluateConfig:
    """How a log is evaluated; one default serves every log.

    `seeds`: of rankers in whose fit chance has a part, counted from `train.seed`. `scene`: train also without scene
    and with wrong ones (`PLACEBOS`). `contrasts`: newest test requests at which right and wrong scenes are compared.
    `cold`: a user who did fewer things with items before the request is cold.
    """

    train: TrainConfig
    seeds: int = 3
    scene: bool = True
    contrasts: int = 1_500
    cold: int = 5


@dataclass
class Outcome:
    """What a ranker came to on test: metrics of each seed and request f64[S, N], and the rest as means over its seeds.

    `by_seed`: mean NDCG@10 of each seed; `valid`: that on valid, by which rankers may be chosen. `context` f64[S, n]:
    by scene field, 1 where the right scene scored higher than the wrong one, .5 where alike. `fit_s`, `ms_a_user`: CPU.
    `scores`: that of each seed. `chances`: what its heads came to with the first seed.
    """

    name: str
    seeds: int
    metrics: dict[str, F64] = field(default_factory=dict)
    by_seed: list[float] = field(default_factory=list)
    valid: float = 0.0
    shown: dict[str, float] = field(default_factory=dict)
    context: dict[str, F64] = field(default_factory=dict)
    chosen: list[Mapping[str, Any]] = field(default_factory=list)
    chances: Mapping[str, Any] | None = None
    fit_s: float = 0.0
    ms_a_user: float = 0.0
    scores: list[Score] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured. `recall` and `ceiling` f64[N]: of what a request took, the share among the
    candidates, and the share that anybody had done something with before; `warm` bool[N]; `user` i64[N].
    """

    dataset: Dataset
    test: Examples
    config: EvaluateConfig
    outcomes: dict[str, Outcome]
    user: I64
    warm: Bools
    recall: F64
    ceiling: F64
    contrasts: dict[str, I64]
    placebos: Mapping[str, Placebo]


def evaluate(
    recorded: Recorded,
    declaration: Declaration,
    rankers: Sequence[Ranker],
    config: EvaluateConfig,
    progress: Progress,
) -> Evaluation:
    """Judge `rankers` on a whole log. Deterministic under the seed.

    Raises TrainingError and EvaluationError where the log is too short or tells nothing apart.
    """
    if config.train.split.test <= 0:
        raise EvaluationError(NO_TEST)
    threads = config.train.threads or idle_threads()
    use_threads(threads)
    dataset = build_dataset(recorded, declaration, config.train, progress)
    test = checked(dataset)
    task = Task(dataset, threads)
    for name in PLACEBOS if config.scene else ():
        with progress.step(f"examples: {name}", len(dataset.learn) + len(dataset.valid)) as tick:
            task.placebos[name] = placebo(dataset, name, config.train.seed, tick)
    most = min(config.contrasts, len(test))
    with progress.step("examples: wrong scenes", most) as tick:
        found = contrasts(dataset, most, config.train.seed, tick)
    outcomes: dict[str, Outcome] = {}
    for ranker in rankers:
        for outcome in judged(ranker, task, test, found, progress, config):
            outcomes[outcome.name] = outcome
    return Evaluation(
        dataset=dataset,
        test=test,
        config=config,
        outcomes=outcomes,
        user=task.user(test),
        warm=task.by_user.count(task.user(test), task.now_ms(test)) >= config.cold,
        recall=test.label.sum(1) / test.wanted,
        ceiling=_known(task, test),
        contrasts={contrast.field: task.user(contrast.right) for contrast in found},
        placebos=task.placebos,
    )


def checked(dataset: Dataset) -> Examples:
    """The test examples. Raises EvaluationError where there are none, or where nothing can be told apart."""
    test = dataset.test
    if test is None or not len(test):
        raise EvaluationError(NO_TEST)
    for part, examples in (("train", dataset.learn), ("valid", dataset.valid), ("test", test)):
        real = examples.batch.item >= 0
        taken = examples.label[real]
        if taken.size == 0 or taken.all() or not taken.any():
            all_or_none = "every candidate" if taken.size and taken.all() else "no candidate"
            message = (
                f"at the {part} requests {all_or_none} was taken, a single class, so that rankings cannot be told "
                "apart: the log needs more items, or more users who come back to what was seen before"
            )
            raise EvaluationError(message)
    return test


def judged(
    ranker: Ranker,
    task: Task,
    test: Examples,
    found: Sequence[Contrast],
    progress: Progress,
    config: EvaluateConfig,
) -> Iterator[Outcome]:
    """Outcomes of everything one ranker fits, over its seeds."""
    seeds = range(config.train.seed, config.train.seed + (config.seeds if ranker.seeded else 1))
    outcomes = {name: Outcome(name, len(seeds)) for name in ranker.names}
    units = ranker.units(task)
    with progress.step(ranker.names[-1], len(seeds) * units) as tick:
        for seed in seeds:
            began, left = time.process_time(), units

            def count(done: int) -> None:
                nonlocal left
                left -= done
                tick(done)

            fitted = ranker.fit(task, seed, count)
            took = time.process_time() - began
            tick(left)  # what was chosen on valid may end a fit early
            for name, one in fitted.items():
                _judge(outcomes[name], one, task, test, took)
                if one.chances is not None and outcomes[name].chances is None:
                    outcomes[name].chances = one.chances()
                if ranker.scened:
                    _judge_context(outcomes[name], one.score, found)
    yield from outcomes.values()


def _judge(outcome: Outcome, fitted: Fitted, task: Task, test: Examples, took: float) -> None:
    """Add one seed to an outcome."""
    batch, items = test.batch, len(task.dataset.recorded.item_ids)
    outcome.scores.append(fitted.score)
    began = time.process_time()
    score = fitted.score(test)
    spent_ms = 1000 * (time.process_time() - began)
    best = order(score, task.dataset.popularity(test), batch.item)
    metrics = of_lists(np.take_along_axis(test.label, best, axis=1), test.wanted)
    top = np.take_along_axis(batch.item, best[:, :CUTOFF], axis=1)
    alike = diversity(top, task.dataset.recorded.category)
    shown = {"coverage": coverage(top, items), "gini": gini(top, items)}
    if np.isfinite(alike).any():
        shown["diversity"] = float(np.nanmean(alike))
    outcome.by_seed.append(means(metrics)["ndcg@10"])
    outcome.valid += task.value(fitted.score) / outcome.seeds
    outcome.chosen.append(fitted.chosen)
    _append(outcome.metrics, metrics)
    for name, value in shown.items():
        outcome.shown[name] = outcome.shown.get(name, 0.0) + value / outcome.seeds
    outcome.fit_s += (took if fitted.fit_s is None else fitted.fit_s) / outcome.seeds
    outcome.ms_a_user += spent_ms / len(test) / outcome.seeds


def _judge_context(outcome: Outcome, score: Score, found: Sequence[Contrast]) -> None:
    for contrast in found:
        right, wrong = score(contrast.right)[:, 0], score(contrast.wrong)[:, 0]
        won = np.where(right == wrong, 0.5, right > wrong)
        _append(outcome.context, {contrast.field: won})


def _append(by_seed: dict[str, F64], values: Mapping[str, F64]) -> None:
    for name, value in values.items():
        by_seed[name] = np.concatenate((by_seed.get(name, np.empty((0, len(value)))), value[None]))


def _known(task: Task, test: Examples) -> F64:
    """Share of what each request took that anybody had done something with before."""
    row, item = task.dataset.chosen.moments.taken(test.request)
    known = task.by_item.count(item.astype(np.int64), task.now_ms(test)[row]) > 0
    share: F64 = np.bincount(row, known, len(test)) / test.wanted
    return share


__all__ = ["EvaluateConfig", "Evaluation", "EvaluationError", "Outcome", "TrainingError", "evaluate"]
