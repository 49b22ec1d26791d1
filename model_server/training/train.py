"""The story of a training: moments, examples, blend, three guarded stages. Read this file first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from model_server.blend import Blend, default_blend, fit_blend
from model_server.preparation import Preparation
from model_server.ranker.device import device_of, idle_threads, use_threads
from model_server.ranker.encoder import Encoder, EncoderShape
from model_server.ranker.net import STAGES, Net, NetShape
from model_server.retrieval.neighbours import Neighbours
from model_server.selection import Calibration, fit_calibration
from model_server.training.asof import Replay, neighbours_before
from model_server.training.examples import Examples, Sampling, build, build_lists
from model_server.training.requests import Moments, moments, split, target_kinds
from model_server.training.stages import Fit, Judge, Judgement

if TYPE_CHECKING:
    from model_server.training.config import TrainConfig
    from model_server.training.progress import Progress
    from model_server.training.recorded import Recorded
    from streams.features.declaration import Declaration

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
BLEND = "wide rank blend"


class TrainingError(ValueError):
    """A log that nothing can be learned from; the text says what is missing."""


@dataclass(frozen=True)
class Chosen:
    """Requests to learn from, to choose by and to report, as positions in `moments`, each in time order."""

    moments: Moments
    train: I64
    valid: I64
    test: I64

    @property
    def learned_until_ms(self) -> int:
        """The first moment that nothing was learned from."""
        return int(self.moments.ts_ms[self.valid[0]])


@dataclass(frozen=True)
class Trained:
    """What a training came to; `served`: the net is above the blend on valid; `scores` by ranker and part."""

    chosen: Chosen
    preparation: Preparation
    net: Net
    blend: Blend
    served: bool
    judgements: list[Judgement]
    calibrations: dict[str, Calibration]
    valid: Judge
    test: Judge | None
    scores: dict[str, dict[str, F32]]
    neighbours: Neighbours
    lists: int


def choose(recorded: Recorded, declaration: Declaration, config: TrainConfig) -> Chosen:
    """The moments of a training. Raises TrainingError where there are too few."""
    found = moments(recorded, declaration, target_kinds(recorded, declaration, config.target))
    first_valid, first_test = split(len(found), config.split)
    train = np.arange(max(0, first_valid - config.lists), first_valid)
    valid = np.arange(max(first_valid, first_test - config.valid), first_test)
    test = np.arange(max(first_test, len(found) - config.test), len(found))
    if len(train) < 1 or len(valid) < 1:
        text = (
            f"{len(recorded)} events make {len(found)} moments at which a user took something new: "
            "too few to learn from and to choose by; record more, or name what counts with --target"
        )
        raise TrainingError(text)
    return Chosen(found, train, valid, test)


def train(recorded: Recorded, declaration: Declaration, config: TrainConfig, progress: Progress) -> Trained:
    """Train on a whole log. Deterministic under `config.seed`. Raises TrainingError."""
    use_threads(config.threads or idle_threads())
    torch.manual_seed(config.seed)
    chosen = choose(recorded, declaration, config)
    preparation = Preparation(
        declaration, _words(recorded, chosen.learned_until_ms, config.words), Neighbours.none(), history=config.history
    )
    learn, valid, test = _examples(recorded, declaration, config, chosen, preparation, progress)
    if not len(learn):
        text = "no training request had its item among the candidates: the log repeats too little to learn from"
        raise TrainingError(text)
    device = device_of(config.device)
    judges = [_judge(part, preparation, config, device) for part in (valid, test) if part is not None]
    blend = _fitted_blend(valid, preparation)
    net, judgements, scores = _fit(declaration, config, preparation, learn, judges, progress)
    for name, judge in zip(("valid", "test"), judges, strict=False):
        scores.setdefault(BLEND, {})[name] = blend.score(judge.examples.batch.near)
    best = scores[STAGES[len(judgements) - 1]]["valid"]
    return Trained(
        chosen=chosen,
        preparation=preparation,
        net=net,
        blend=blend,
        served=judges[0].value_of(best) > judges[0].value_of(scores[BLEND]["valid"]),
        judgements=judgements,
        calibrations={
            "net": _calibrated(valid, best),
            "blend": _calibrated(valid, scores[BLEND]["valid"]),
        },
        valid=judges[0],
        test=judges[1] if len(judges) > 1 else None,
        scores=scores,
        neighbours=neighbours_before(recorded, declaration, len(recorded)),
        lists=len(learn),
    )


def _words(recorded: Recorded, until_ms: int, least: int) -> NDArray[np.uint64]:
    """Sorted codes of the items with at least `least` events before `until_ms`."""
    end = int(np.searchsorted(recorded.columns.ts_ms, until_ms))
    counts = np.bincount(recorded.item[:end], minlength=len(recorded.codes))
    return np.sort(recorded.codes[counts >= least])


def _examples(
    recorded: Recorded,
    declaration: Declaration,
    config: TrainConfig,
    chosen: Chosen,
    preparation: Preparation,
    progress: Progress,
) -> tuple[Examples, Examples, Examples | None]:
    """Lists to learn from, and whole candidate sets to choose by and to report."""
    stamps = chosen.moments.ts_ms
    replay = Replay(
        recorded,
        declaration,
        preparation,
        neighbours_every_ms=config.renew_every_ms(int(stamps[-1] - stamps[chosen.train[0]])),
        refresh_ms=config.refresh_ms,
        profiles_ms=config.profiles_ms,
    )
    sampling = Sampling(config.width, config.seed)
    with progress.step("examples: train", len(chosen.train)) as tick:
        learn = build_lists(replay, chosen.moments, chosen.train, sampling, tick)
    with progress.step("examples: valid", len(chosen.valid)) as tick:
        valid = build(replay, chosen.moments, chosen.valid, tick)
    if not len(chosen.test):
        return learn, valid, None
    with progress.step("examples: test", len(chosen.test)) as tick:
        return learn, valid, build(replay, chosen.moments, chosen.test, tick)


def _judge(examples: Examples, preparation: Preparation, config: TrainConfig, device: torch.device) -> Judge:
    popularity = examples.batch.counters[..., preparation.counters.names.index("item_all")]
    return Judge(examples, popularity, config.history, device)


def _fitted_blend(valid: Examples, preparation: Preparation) -> Blend:
    start = default_blend(preparation.retriever.names)
    return fit_blend(valid.batch.near, valid.batch.item >= 0, valid.label, start)


def _calibrated(examples: Examples, scores: F32) -> Calibration:
    return fit_calibration(scores, examples.batch.item >= 0, examples.label)


def _fit(
    declaration: Declaration,
    config: TrainConfig,
    preparation: Preparation,
    learn: Examples,
    judges: list[Judge],
    progress: Progress,
) -> tuple[Net, list[Judgement], dict[str, dict[str, F32]]]:
    """The three stages; the encoder is taken off again where it was not kept."""
    names = preparation.counters.names
    device = judges[0].device
    net = Net(NetShape(len(names))).to(device)
    net.base.learn_scales(_sample(learn, config.seed))
    fit = Fit(net, learn, judges[0], np.random.default_rng(config.seed), lambda *told: progress.says(_told(*told)))
    linear, base = list(net.base.linear.parameters()), list(net.base.net.parameters())
    judgements = [fit.stage(STAGES[0], config.linear, linear, [])]
    scores = {STAGES[0]: _scored(net, judges)}
    judgements.append(fit.stage(STAGES[1], config.net, [*base, *linear], []))
    scores[STAGES[1]] = _scored(net, judges)
    if config.encoder is not None:
        shape = _encoder_shape(declaration, config, preparation)
        net.shape, net.encoder = NetShape(len(names), shape), Encoder(shape).to(device)
        judgements.append(fit.stage(STAGES[2], config.encoder, list(net.encoder.parameters()), [*base, *linear]))
        scores[STAGES[2]] = _scored(net, judges)
        if judgements[-1].kept == 0:
            net.shape, net.encoder = NetShape(len(names)), None
    return net, judgements, scores


def _told(stage: str, epoch: int, epochs: int, value: float) -> str:
    return f"{stage:<12} pass {epoch:>2} of {epochs:<2}  NDCG@10 on valid {value:.4f}"


def _scored(net: Net, judges: list[Judge]) -> dict[str, F32]:
    return {name: judge.scores(net) for name, judge in zip(("valid", "test"), judges, strict=False)}


def _sample(learn: Examples, seed: int, most: int = 100_000) -> F32:
    """Counters f32[N, F] of real candidates, at most `most` of them."""
    real = np.flatnonzero((learn.batch.item >= 0).reshape(-1))
    if len(real) > most:
        real = np.random.default_rng(seed).choice(real, most, replace=False)
    flat = learn.batch.counters.reshape(-1, learn.batch.counters.shape[2])
    sampled: F32 = flat[real]
    return sampled


def _encoder_shape(declaration: Declaration, config: TrainConfig, preparation: Preparation) -> EncoderShape:
    return EncoderShape(
        features=len(preparation.counters.names),
        words=len(preparation.words) + 1,
        kinds=len(declaration.kinds),
        window_kinds=len(declaration.window_kinds),
        windows=len(declaration.windows),
        scene_sizes=declaration.scene_sizes,
        history=config.history,
        hidden=config.hidden,
    )
