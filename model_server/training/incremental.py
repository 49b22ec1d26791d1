"""The story of an incremental training: the bundle in force goes on learning from what came since, then meets a gate.

New requests and older ones of every sort teach it, dense layers slowly; what is kept is the average of its weights on
the way. The newest requests, which it never saw, decide whether it may replace the bundle in force.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from model_server.evaluation.ranker import Task
from model_server.evaluation.trained import Bundled
from model_server.ranker.cores import idle_threads
from model_server.ranker.device import use_threads
from model_server.ranker.load import net_from
from model_server.ranker.net import Net
from model_server.selection import Calibration
from model_server.training.dataset import TrainingError, dataset_of, words_before
from model_server.training.drift import Drift, drifts
from model_server.training.gate import Gate, passed, side
from model_server.training.mixed import Mixed
from model_server.training.plan import Stages
from model_server.training.slices import Slicing, new_moments
from model_server.training.stages import METRIC, Judge, Judgement, Passed, StageSettings, batches, one_pass
from model_server.training.train import Trained, finished, judge_of

if TYPE_CHECKING:
    from model_server.bundle import Bundle
    from model_server.evaluation.ranker import Score
    from model_server.training.config import TrainConfig
    from model_server.training.curves import Curves
    from model_server.training.dataset import Dataset
    from model_server.training.examples import Examples
    from model_server.training.progress import Progress
    from model_server.training.recorded import Recorded
    from streams.features.declaration import Declaration

U64 = NDArray[np.uint64]
STAGE = "incremental"


@dataclass(frozen=True)
class IncrementalConfig:
    """How an incremental training is done; `train` gives seed, device, widths and the most lists.

    `stage`: its rate is that of trained ids, dense layers learn `slower` times that. `averaged`: over which share of
    the steps weights are averaged, the newest weighing most.
    """

    train: TrainConfig
    slicing: Slicing = field(default_factory=Slicing)
    stage: StageSettings = field(default_factory=lambda: StageSettings(rate=1e-3, passes=2, decay=0.02, slower=0.2))
    averaged: float = 0.2


@dataclass(frozen=True)
class Continued:
    """What came of it: the ranker as a training leaves it, its gate, and when the one in force began to rank otherwise.

    `new` and `replayed`: requests that it was to learn from.
    """

    trained: Trained
    gate: Gate
    drifts: list[Drift]
    new: int
    replayed: int

    @property
    def why_not(self) -> str:
        """What keeps it from being promoted, empty where nothing does."""
        if not self.trained.served:
            return f"it is not above {self.trained.bar.name} on the requests that it is calibrated by"
        return self.gate.why_not


def learned_until_ms(bundle: Bundle) -> int:
    """The first moment that a bundle did not learn from. Raises TrainingError where nothing can go on from it."""
    if bundle.weights is None:
        text = f"the bundle in force, {bundle.version}, serves with the blend, which nothing can go on from: train anew"
        raise TrainingError(text)
    try:
        return int(bundle.report["learned_until_ms"])
    except KeyError:
        text = f"the bundle in force, {bundle.version}, does not say until when it learned: train anew"
        raise TrainingError(text) from None


def go_on(
    recorded: Recorded,
    declaration: Declaration,
    bundle: Bundle,
    config: IncrementalConfig,
    progress: Progress,
    curves: Curves | None = None,
) -> Continued:
    """Go on from `bundle` with what is new in a whole log. Deterministic under the seed. Raises TrainingError."""
    since_ms = learned_until_ms(bundle)
    use_threads(config.train.threads or idle_threads())
    chosen = new_moments(recorded, declaration, config.train, config.slicing, since_ms)
    words = np.union1d(bundle.words, words_before(recorded, chosen.learned_until_ms, config.train.words))
    titles = {"projection": bundle.titles} if bundle.titles is not None else {"text": "none"}
    train = replace(config.train, history=bundle.history, **titles)
    dataset = dataset_of(recorded, declaration, train, chosen, words, progress)
    if bundle.counters != dataset.preparation.counters.names:
        text = f"the bundle in force, {bundle.version}, knows other counters than this release: train anew"
        raise TrainingError(text)
    valid, gate = judge_of(dataset, dataset.valid), judge_of(dataset, _gate_of(dataset))
    score = Bundled(bundle).fit(Task(dataset), 0, lambda _: None)[f"bundle {bundle.version}"].score
    net, judgement, seconds = _learned(dataset, bundle, config, valid, progress, curves)
    trained = finished(dataset, Stages({STAGE: net}, [judgement], {STAGE: seconds}), progress)
    user = chosen.moments.user[chosen.test]
    in_force = side(gate, np.asarray(score(gate.examples), np.float32), Calibration(*bundle.calibrations["net"]))
    new = int((chosen.moments.ts_ms[chosen.train] >= since_ms).sum())
    return Continued(
        trained=trained,
        gate=passed(
            side(gate, gate.scores(net), trained.calibrations["net"]),
            in_force, user, int(chosen.moments.ts_ms[chosen.test[0]]), config.train.seed,
        ),
        drifts=_drifts(dataset, score),
        new=new,
        replayed=len(chosen.train) - new,
    )  # fmt: skip


def grown(net: Net, words: U64, more: U64) -> Net:
    """The net with trained ids for `more`, which hold all of `words`, both sorted; a new one begins as the unknown."""
    encoder = net.shape.encoder
    if encoder is None or len(more) == len(words):
        return net
    wider = Net(replace(net.shape, encoder=replace(encoder, words=len(more) + 1)))
    state = net.state_dict()
    known = state["encoder.word.weight"]
    table = known[:1].repeat(len(more) + 1, 1)
    table[1 + torch.from_numpy(np.searchsorted(more, words))] = known[1:]
    wider.load_state_dict({**state, "encoder.word.weight": table})
    return wider


def _learned(
    dataset: Dataset,
    bundle: Bundle,
    config: IncrementalConfig,
    valid: Judge,
    progress: Progress,
    curves: Curves | None,
) -> tuple[Net, Judgement, float]:
    """The net after some passes, its weights averaged on the way; what that did on valid; CPU seconds."""
    assert bundle.shape is not None and bundle.weights is not None  # noqa: S101, PT018
    began, stage, learn = time.process_time(), config.stage, dataset.learn
    torch.manual_seed(config.train.seed)
    net = grown(net_from(bundle.shape, bundle.weights), bundle.words, dataset.preparation.words).to(valid.device)
    before = valid.value(net)
    ids = [] if net.encoder is None else list(net.encoder.word.parameters())
    dense = [p for p in net.parameters() if all(p is not known for known in ids)]
    groups = [{"params": ids, "lr": stage.rate}, {"params": dense, "lr": stage.rate * stage.slower}]
    optimiser = torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=stage.decay)
    passes = stage.epochs(len(learn))
    steps = passes * -(-len(learn) // stage.batch)
    fading = get_ema_multi_avg_fn(1 - 1 / max(1.0, config.averaged * steps))  # type: ignore[no-untyped-call]
    average = AveragedModel(net, multi_avg_fn=fading)
    generator, mixed = np.random.default_rng(config.train.seed), Mixed(config.train.precision, valid.device)
    for number in range(1, passes + 1):
        lists = batches(learn, stage.batch, valid, generator)
        loss, norm = one_pass(net, lists, optimiser, mixed, stepped=lambda: average.update_parameters(net))
        if curves is not None:
            curves.passed(Passed(STAGE, number, passes, loss, np.nan, stage.rate, norm))
        progress.says(f"{STAGE:<12} pass {number:>2} of {passes:<2}  loss {loss:.4f}")
    averaged = cast("Net", average.module)
    after = valid.value(averaged)
    return averaged, Judgement(STAGE, passes, before, after, ()), time.process_time() - began


def _drifts(dataset: Dataset, score: Score) -> list[Drift]:
    """Changes in how well the bundle in force ranks the training lists, old and new."""
    learn = dataset.learn
    ndcg = Judge(learn, dataset.popularity(learn), 0, torch.device("cpu")).metrics_of(np.asarray(score(learn)))[METRIC]
    return drifts(ndcg, dataset.chosen.moments.ts_ms[learn.request])


def _gate_of(dataset: Dataset) -> Examples:
    assert dataset.test is not None  # noqa: S101
    return dataset.test
