"""The story of a training: examples of a log, blend, three guarded stages. Read this file first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_server.blend import Blend, best_blend, default_blend, fit_blend
from model_server.evaluation.metrics import Ndcg, means
from model_server.ranker.device import device_of, use_threads
from model_server.selection import Calibration, fit_calibration
from model_server.training.asof import neighbours_before
from model_server.training.baselines import Metrics, baselines
from model_server.training.checkpoints import Checkpoints
from model_server.training.dataset import Chosen, Dataset, TrainingError, build_dataset, choose
from model_server.training.heads import Graded, fit_heads
from model_server.training.plan import Stages, fit_stages
from model_server.training.sides import fit_sides
from model_server.training.stages import ALONE, Judge, Judgement, Passed, hidden_of

if TYPE_CHECKING:
    from model_server.preparation import Preparation
    from model_server.ranker.net import Net
    from model_server.retrieval.neighbours import Neighbours
    from model_server.training.config import TrainConfig
    from model_server.training.curves import Curves
    from model_server.training.examples import Examples
    from model_server.training.heads import Scorer
    from model_server.training.progress import Progress
    from model_server.training.ranks import Ranks
    from model_server.training.recorded import Recorded
    from streams.features.declaration import Declaration

__all__ = ["BLEND", "Stages", "Trained", "TrainingError", "choose", "fitted_blend", "judge_of", "train"]

F32 = NDArray[np.float32]
BLEND = "wide rank blend"


class Bar(NamedTuple):
    """What a net must be above on valid to come into force: the better of the blend and the best baseline."""

    name: str
    value: float


@dataclass(frozen=True)
class Trained:
    """What a training came to; `served`: the net is above the bar on valid; `scores` by ranker and part.

    `baselines`: their metrics by part, as `training.baselines` tells them. `graded`: the heads over what is served.
    """

    dataset: Dataset
    stages: Stages
    blend: Blend
    bar: Bar
    served: bool
    baselines: dict[str, dict[str, Metrics]]
    calibrations: dict[str, Calibration]
    valid: Judge
    test: Judge | None
    scores: dict[str, dict[str, F32]]
    neighbours: Neighbours
    graded: Graded | None = None

    @property
    def net(self) -> Net:
        """The net after the last stage."""
        return self.stages.net

    @property
    def judgements(self) -> list[Judgement]:
        """What each stage came to."""
        return self.stages.judgements

    @property
    def chosen(self) -> Chosen:
        """The moments."""
        return self.dataset.chosen

    @property
    def preparation(self) -> Preparation:
        """How candidates were found and counted."""
        return self.dataset.preparation


def train(
    recorded: Recorded,
    declaration: Declaration,
    config: TrainConfig,
    progress: Progress,
    curves: Curves | None = None,
    ranks: Ranks | None = None,
) -> Trained:
    """Train on a whole log, from where the same training was interrupted. Deterministic under `config.seed`.

    `ranks`: of several processes the first one alone comes here, the others `assist`. Raises TrainingError, RanksError.
    """
    ranks = ranks or ALONE
    use_threads(ranks.threads(config.threads))
    dataset = build_dataset(recorded, declaration, config, progress)
    valid, kept = judge_of(dataset, dataset.valid), Checkpoints.beside(config.model_dir, dataset, config.seed, ranks)

    def tick(passed: Passed) -> None:
        if curves is not None:
            curves.passed(passed)
        if not passed.again:
            progress.says(_told(passed))

    stages = fit_stages(dataset, dataset.learn, valid, config.seed, tick, kept, ranks)
    trained = finished(dataset, stages, progress)
    kept.clear()
    return trained


def finished(dataset: Dataset, stages: Stages, progress: Progress) -> Trained:
    """What the stages came to beside what they must be above, with what the scores mean."""
    judges = {"valid": judge_of(dataset, dataset.valid)}
    if dataset.test is not None:
        judges["test"] = judge_of(dataset, dataset.test)
    valid, blend = judges["valid"], fitted_blend(dataset)
    scores = {stage: {part: judge.scores(net) for part, judge in judges.items()} for stage, net in stages.nets.items()}
    scores[BLEND] = {part: blend.score(judge.examples.batch.near) for part, judge in judges.items()}
    best = scores[stages.judgements[-1].stage]["valid"]
    others = baselines(dataset, judges, progress)
    bar = bar_of(valid.value_of(scores[BLEND]["valid"]), others)
    trained = Trained(
        dataset=dataset,
        stages=stages,
        blend=blend,
        bar=bar,
        served=valid.value_of(best) > bar.value,
        baselines=others,
        calibrations={
            "net": _calibrated(dataset.valid, best),
            "blend": _calibrated(dataset.valid, scores[BLEND]["valid"]),
        },
        valid=valid,
        test=judges.get("test"),
        scores=scores,
        neighbours=neighbours_before(dataset.recorded, dataset.declaration, len(dataset.recorded)),
    )
    return replace(trained, graded=_graded(trained, progress))


def _graded(trained: Trained, progress: Progress) -> Graded:
    """All heads over the ranker that is served."""
    dataset = trained.dataset
    scorer = scorer_of(dataset, trained.net if trained.served else trained.blend)
    calibration = trained.calibrations["net" if trained.served else "blend"]
    with progress.step("heads: grades", 1) as tick:
        graded = fit_heads(dataset, scorer, calibration)
        tick(1)
    with progress.step("heads: sides", 1) as tick:
        sides, told = fit_sides(dataset, graded.heads, scorer)
        tick(1)
    return Graded(graded.heads.with_sides(sides), {**graded.told, "sides": told})


def scorer_of(dataset: Dataset, ranker: Net | Blend) -> Scorer:
    """How the heads score batches; a blend has no hidden layer."""
    if isinstance(ranker, Blend):
        return lambda batch: (ranker.score(batch.near), np.empty((*batch.item.shape, 0), np.float32))
    history, device = dataset.config.history, device_of(dataset.config.device)
    return lambda batch: hidden_of(ranker, batch, history, device)


def bar_of(blend: float, others: Mapping[str, Mapping[str, Metrics]]) -> Bar:
    """The better of the blend, of that NDCG@10 on valid, and of the best baseline; the blend where they are equal."""
    bars = [Bar(BLEND, blend), *(Bar(name, means(parts["valid"])["ndcg@10"]) for name, parts in others.items())]
    return max(bars, key=lambda bar: bar.value)


def judge_of(dataset: Dataset, examples: Examples) -> Judge:
    """Who scores `examples` with nets and judges the scores."""
    config = dataset.config
    return Judge(examples, dataset.popularity(examples), config.history, device_of(config.device))


def fitted_blend(dataset: Dataset) -> Blend:
    """The wide rank blend with weights fitted on valid: not below any of its lists there."""
    valid = dataset.valid
    start = default_blend(dataset.preparation.retriever.names)
    likeliest = fit_blend(valid.batch.near, valid.batch.item >= 0, valid.label, start)
    value = Ndcg(dataset.popularity(valid), valid.batch.item, valid.label, valid.wanted)
    return best_blend(valid.batch.near, (start, likeliest), value)


def _calibrated(examples: Examples, scores: F32) -> Calibration:
    return fit_calibration(scores, examples.batch.item >= 0, examples.label)


def _told(passed: Passed) -> str:
    stage, epoch, epochs = passed.stage, passed.epoch, passed.epochs
    return f"{stage:<12} pass {epoch:>2} of {epochs:<2}  NDCG@10 on valid {passed.valid:.4f}"
