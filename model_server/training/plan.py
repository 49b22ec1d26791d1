"""What the stages of a fit are made of and no more, so that a process without the log can take part; and the stages."""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from model_server.counters.batch import CountedBatch, PastTokens
from model_server.ranker.device import device_of, use_threads
from model_server.ranker.encoder import Encoder, EncoderShape
from model_server.ranker.net import STAGES, Net, NetShape
from model_server.training.checkpoints import Checkpoints
from model_server.training.examples import Examples
from model_server.training.stages import ALONE, Around, Fit, Judge, Judgement, Passed, StageSettings

if TYPE_CHECKING:
    from model_server.training.dataset import Dataset
    from model_server.training.mixed import Wish
    from model_server.training.ranks import Ranks

F32 = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]


class Stages(NamedTuple):
    """The net as each stage left it, the guard's verdict on each, and the CPU seconds up to the end of each."""

    nets: dict[str, Net]
    judgements: list[Judgement]
    seconds: dict[str, float]

    @property
    def net(self) -> Net:
        """The net after the last stage."""
        return self.nets[self.judgements[-1].stage]


class Plan(NamedTuple):
    """Lists to learn from, requests to choose by (`popularity` breaks their ties), sizes of the net, and the recipe.

    `stages`: two of them, or three where the shape has an encoder.
    """

    learn: Examples
    valid: Examples
    popularity: F32
    shape: NetShape
    stages: tuple[StageSettings, ...]
    seed: int
    history: int
    precision: Wish
    threads: int

    def judge(self, device: torch.device) -> Judge:
        """Who chooses."""
        return Judge(self.valid, self.popularity, self.history, device)

    def packed(self) -> bytes:
        """As a safetensors file; settings are its metadata."""
        from safetensors.numpy import save

        arrays = {**_arrays("learn", self.learn), **_arrays("valid", self.valid), "popularity": self.popularity}
        settings = {
            "shape": dataclasses.asdict(self.shape),
            "stages": [dataclasses.asdict(stage) for stage in self.stages],
            **{name: getattr(self, name) for name in ("seed", "history", "precision", "threads")},
        }
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        return json.dumps(settings).encode() + b"\n" + save(whole)

    @classmethod
    def unpacked(cls, content: bytes) -> Plan:
        """What was packed."""
        from safetensors.numpy import load

        settings, _, file = content.partition(b"\n")
        arrays, told = load(file), json.loads(settings)
        return cls(
            learn=_examples("learn", arrays),
            valid=_examples("valid", arrays),
            popularity=arrays["popularity"],
            shape=NetShape.of(told.pop("shape")),
            stages=tuple(StageSettings(**stage) for stage in told.pop("stages")),
            **told,
        )


def planned(dataset: Dataset, learn: Examples, judge: Judge, seed: int) -> Plan:
    """The plan of a dataset's config, with these lists, chosen by `judge`."""
    config = dataset.config
    encoder = None if config.encoder is None else _encoder_shape(dataset)
    stages = (config.linear, config.net, config.encoder)
    return Plan(
        learn=learn,
        valid=judge.examples,
        popularity=judge.popularity,
        shape=NetShape(len(dataset.preparation.counters.names), encoder),
        stages=tuple(stage for stage in stages if stage is not None),
        seed=seed,
        history=judge.history,
        precision=config.precision,
        threads=config.threads,
    )


def fit_stages(
    dataset: Dataset,
    learn: Examples,
    judge: Judge,
    seed: int,
    tick: Callable[[Passed], object] = lambda _: None,
    checkpoints: Checkpoints | None = None,
    ranks: Ranks = ALONE,
) -> Stages:
    """The stages on `learn`, chosen by `judge`, together with the other processes, which `assist`."""
    plan = planned(dataset, learn, judge, seed)
    if ranks.world > 1:
        ranks.share(plan.packed())
    stages = fitted(plan, judge, Around(tick, checkpoints or Checkpoints(ranks=ranks), ranks, plan.precision))
    ranks.leave()
    return stages


def assist(ranks: Ranks, device: str) -> None:
    """Take part, as one that is not the first, in the fit that the first one shares. Raises RanksError."""
    plan = Plan.unpacked(ranks.share(b""))
    use_threads(ranks.threads(plan.threads))
    judge = plan.judge(device_of(device))
    fitted(plan, judge, Around(checkpoints=Checkpoints(ranks=ranks), ranks=ranks, precision=plan.precision))
    ranks.leave()


def fitted(plan: Plan, judge: Judge, around: Around) -> Stages:
    """The stages of a plan; the encoder is taken off again where it was not kept."""
    torch.manual_seed(plan.seed)
    began = time.process_time()
    net = Net(replace(plan.shape, encoder=None)).to(judge.device)
    net.base.learn_scales(_sample(plan.learn, plan.seed))
    around.ranks.draw_apart(plan.seed)
    fit = Fit(net, plan.learn, judge, np.random.default_rng(plan.seed), around)
    linear, base = list(net.base.linear.parameters()), list(net.base.net.parameters())
    stages = Stages({}, [], {})

    def done(judgement: Judgement) -> None:
        stages.judgements.append(judgement)
        stages.nets[judgement.stage] = copy.deepcopy(net)
        stages.seconds[judgement.stage] = time.process_time() - began

    done(fit.stage(STAGES[0], plan.stages[0], linear, []))
    done(fit.stage(STAGES[1], plan.stages[1], [*base, *linear], []))
    if plan.shape.encoder is not None:
        net.shape, net.encoder = plan.shape, Encoder(plan.shape.encoder).to(judge.device)
        verdict = fit.stage(STAGES[2], plan.stages[2], list(net.encoder.parameters()), [*base, *linear])
        if verdict.kept == 0:
            net.shape, net.encoder = replace(net.shape, encoder=None), None
        done(verdict)
    return stages


def _arrays(part: str, examples: Examples) -> Arrays:
    return {f"{part}.{name}": array for name, array in _named(examples)}


def _named(examples: Examples) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, value in (*examples._asdict().items(), *examples.batch._asdict().items()):
        if isinstance(value, np.ndarray):
            yield name, value
    for name, value in examples.batch.past._asdict().items():
        yield f"past.{name}", value


def _examples(part: str, arrays: Arrays) -> Examples:
    past = PastTokens._make(arrays[f"{part}.past.{name}"] for name in PastTokens._fields)
    own = {name: arrays[f"{part}.{name}"] for name in CountedBatch._fields if name != "past"}
    label, wanted, request = (arrays[f"{part}.{name}"] for name in Examples._fields[1:])
    return Examples(CountedBatch(past=past, **own), label, wanted, request)


def _sample(learn: Examples, seed: int, most: int = 100_000) -> F32:
    """Counters f32[N, F] of real candidates, at most `most` of them."""
    real = np.flatnonzero((learn.batch.item >= 0).reshape(-1))
    if len(real) > most:
        real = np.random.default_rng(seed).choice(real, most, replace=False)
    flat = learn.batch.counters.reshape(-1, learn.batch.counters.shape[2])
    sampled: F32 = flat[real]
    return sampled


def _encoder_shape(dataset: Dataset) -> EncoderShape:
    declaration, config, preparation = dataset.declaration, dataset.config, dataset.preparation
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
