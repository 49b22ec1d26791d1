"""The proof that the ranker reads time and scene: a shop with planted preferences, a ranker trained on its log, claims.

Read `prove` first. Two shops of one seed are evaluated by the harness, one whose scenes say what is wanted and one
whose scenes say nothing; what must be seen in them is held against what was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model_server.evaluation.harness import EvaluateConfig, Evaluation, evaluate
from model_server.evaluation.intervals import interval, ratio
from model_server.evaluation.oracle import BLIND, Oracle
from model_server.evaluation.planted import NULL, PLANTED, Planting, World
from model_server.evaluation.planted_log import log
from model_server.evaluation.ranker import Task
from model_server.evaluation.rankers import rankers
from model_server.evaluation.report import final, report
from model_server.evaluation.scene import OTHERS, PERMUTED, PLACEBOS, WITHOUT
from model_server.evaluation.send_time import Regrets, Truth, regrets
from model_server.evaluation.trained import Blended, Nets

if TYPE_CHECKING:
    from model_server.training.progress import Progress
    from streams.features.declaration import Declaration

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
SENT = 300
"""Newest test requests at which the hour to send at is chosen."""
SHARE, GAIN = 0.9, 0.2
"""What must be reached of the oracle's NDCG@10, and gained over the same model without scene."""


@dataclass(frozen=True)
class Claim:
    """What must be seen, what was, with its interval, and whether that holds the claim."""

    says: str
    value: float
    low: float
    high: float
    holds: bool


@dataclass(frozen=True)
class Proof:
    """The claims, and the reports they were read from: of the planted shop and of the one where nothing is planted."""

    claims: list[Claim]
    planted: dict[str, Any]
    nothing: dict[str, Any]
    numbers: dict[str, Any]

    @property
    def holds(self) -> bool:
        """Whether every claim does."""
        return all(claim.holds for claim in self.claims)

    def told(self) -> dict[str, Any]:
        """Everything as plain numbers."""
        return {"holds": self.holds, "claims": [asdict(claim) for claim in self.claims], **self.numbers}


def prove(
    planting: Planting,
    declaration: Declaration,
    config: EvaluateConfig,
    baselines: Sequence[str],
    progress: Progress,
    sources: str | None,
) -> Proof:
    """Plant, train and judge. Deterministic under the seed of `config`. Raises TrainingError and EvaluationError."""
    seed, encoder = config.train.seed, config.train.encoder is not None
    world, silent = (World.plant(shop, seed, declaration) for shop in (planting, planting.nothing))
    progress.says("A shop with planted preferences by " + ", ".join(PLANTED))
    both = [Oracle(world), *rankers(config, baselines, None)]
    found = evaluate(log(world, declaration), declaration, both, config, progress)
    progress.says("The same shop with nothing planted")
    both = [Blended(), Nets(encoder), Nets(encoder, WITHOUT)]
    without = evaluate(log(silent, declaration), declaration, both, replace(config, scene=False, contrasts=1), progress)
    planted, nothing = report(found, "a planted shop", sources), report(without, "nothing planted", sources)
    name = final(planted)
    worth, idle = Worth.measured(Oracle(world), found), Worth.measured(Oracle(silent), without)
    lost = _lost(name, found, Oracle(world).truth(Task(found.dataset)), progress)
    claims = [
        *scene_claims(name, worth, idle),
        *field_claims(planted["context auc"][name]),
        *_time_claims(lost, seed),
    ]
    told = {"planting": asdict(planting), "seed": seed, "recall@200": planted["recall@200"], **worth.told()}
    told |= {"placebos": planted["placebos"], "placebos gain": placebo_gains(name, worth)}
    return Proof(claims, planted, nothing, {**told, "send time": _of_time(lost), "nothing planted": idle.told()})


@dataclass(frozen=True)
class Worth:
    """Expected NDCG@10 f64[N] of the oracle (`best`) and, by seed, f64[S, N] of everything judged on one shop; user
    i64[N].
    """

    best: F64
    of: Mapping[str, F64]
    user: I64
    seed: int

    @classmethod
    def measured(cls, oracle: Oracle, found: Evaluation) -> Worth:
        """By the true chances at the test requests."""
        expected = oracle.expected(Task(found.dataset), found.test)
        of = {name: expected.of(outcome.scores) for name, outcome in found.outcomes.items()}
        return cls(expected.best, of, found.user, found.config.train.seed)

    def share(self, name: str) -> tuple[float, float, float]:
        """(share of the oracle's, its interval)."""
        return ratio(self.of[name], self.best, self.seed, self.user)

    def gain(self, name: str, over: str) -> tuple[float, float, float]:
        """(gain as a share of the other's, its interval)."""
        found = ratio(self.of[name], self.of[over], self.seed, self.user)
        return found[0] - 1, found[1] - 1, found[2] - 1

    def told(self) -> dict[str, Any]:
        """Means, and what the scene can be worth to anybody."""
        means = {name: float(values.mean()) for name, values in self.of.items()}
        told: dict[str, Any] = {"oracle over the whole shop": float(self.best.mean()), "expected NDCG@10": means}
        told["by seed"] = {name: values.mean(1).tolist() for name, values in self.of.items() if len(values) > 1}
        if BLIND in means:
            told["scene can be worth"] = told["oracle over the whole shop"] / means[BLIND] - 1
        return told


def _lost(name: str, found: Evaluation, truth: Truth, progress: Progress) -> Regrets:
    """What is lost of an item's chance at the hour the ranker chooses for it, now, and at the user's usual hour."""
    most = min(SENT, len(found.test))
    with progress.step("send time", most) as tick:
        return regrets(found.dataset, found.outcomes[name].scores[0], truth, most, tick)


def _of_time(lost: Regrets) -> dict[str, float]:
    return {f"regret {name}": float(getattr(lost, name).mean()) for name in ("chosen", "now", "usual")}


def _time_claims(lost: Regrets, seed: int) -> Iterator[Claim]:
    for other, words in ((lost.now, "now"), (lost.usual, "the user's usual hour")):
        gain = other - lost.chosen
        low, high = interval(gain, seed, lost.user)
        says = f"sent at the hour it chooses, an item keeps more of its chance than at {words}".replace("at now", "now")
        yield Claim(says, float(gain.mean()), low, high, holds=low > 0)


def scene_claims(name: str, worth: Worth, idle: Worth) -> Iterator[Claim]:
    """What the ranker reaches, and what the scene, its placebos, and a scene that says nothing are worth to it.

    Of others' scenes nothing is left to learn from, a user's other scenes still tell habits: the one must gain nothing,
    above the other the right scene must be.
    """
    without, permuted, others = (f"{name}, {scene}" for scene in (WITHOUT, PERMUTED, OTHERS))
    share, gain = worth.share(name), worth.gain(name, without)
    yield Claim(f"{name} reaches {SHARE:.0%} of the oracle's NDCG@10", *share, holds=share[0] >= SHARE)
    says = f"the scene gains {GAIN:.0%} over the same model without it"
    yield Claim(says, *gain, holds=gain[0] >= GAIN and gain[1] > 0)
    gain = idle.gain(name, without)
    yield Claim("it gains nothing where nothing is planted", *gain, holds=gain[1] <= 0)
    gain = worth.gain(others, without)
    yield Claim("the scene of others in training (placebo) gains nothing", *gain, holds=gain[1] <= 0)
    gain = worth.gain(name, permuted)
    yield Claim("the right scene is above that of another visit of the user", *gain, holds=gain[1] > 0)


def placebo_gains(name: str, worth: Worth) -> dict[str, tuple[float, float, float]]:
    """(gain over the same model without scene, its interval) of each placebo."""
    return {scene: worth.gain(f"{name}, {scene}", f"{name}, {WITHOUT}") for scene in PLACEBOS}


def field_claims(context: Mapping[str, Mapping[str, float]]) -> Iterator[Claim]:
    """Which fields the score tells right from wrong, from the context AUC of the ranker."""
    for field in PLANTED:
        auc = context[field]
        yield Claim(f"the score tells {field} right from wrong", auc["auc"], auc["low"], auc["high"], auc["low"] > 0.5)
    for field in NULL:
        auc = context[field]
        holds = auc["low"] <= 0.5 <= auc["high"]
        yield Claim(f"it does not tell {field}, which says nothing", auc["auc"], auc["low"], auc["high"], holds)
