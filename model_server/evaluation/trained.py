"""What `kairos train` makes, as rankers of the harness: the wide blend, the guarded stages, and a bundle at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from model_server.evaluation.chances import chances
from model_server.evaluation.ranker import Fitted, Score, Scores, Task, Tick
from model_server.evaluation.scene import WITHOUT, without_scene
from model_server.preparation import words_of
from model_server.ranker.load import net_from
from model_server.ranker.net import STAGES
from model_server.training.plan import fit_stages
from model_server.training.stages import scores_of
from model_server.training.train import BLEND, fitted_blend, judge_of

if TYPE_CHECKING:
    from model_server.bundle import Bundle
    from model_server.ranker.net import Net
    from model_server.training.examples import Examples

NAMES: Mapping[str, str] = {
    "linear": "linear",
    "counter net": "counter net",
    "encoder": "counter net + transformer",
}
"""What the report calls the net after each stage."""


class Blended:
    """The wide rank blend with weights fitted on valid: what every other ranker is measured against."""

    names: tuple[str, ...] = (BLEND,)
    seeded = False
    scened = False

    def units(self, task: Task) -> int:  # noqa: ARG002
        """One."""
        return 1

    def fit(self, task: Task, seed: int, tick: Tick) -> Mapping[str, Fitted]:  # noqa: ARG002
        """Fit the weights."""
        blend = fitted_blend(task.dataset)
        names = task.dataset.preparation.retriever.names
        weights = {name: round(float(weight), 3) for name, weight in zip(names, blend.weights, strict=True)}
        tick(1)
        told = partial(chances, task.dataset, blend)
        return {BLEND: Fitted(lambda examples: blend.score(examples.batch.near), weights, chances=told)}


@dataclass(frozen=True)
class Nets:
    """The stages of a training. `scene`: "" as it is, WITHOUT for none, one of PLACEBOS for wrong ones but on test."""

    encoder: bool
    scene: str = ""
    seeded: bool = True
    scened: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """One a stage; of the variants the linear stage is left out."""
        return tuple(self._name(stage) for stage in self._stages())

    def _stages(self) -> tuple[str, ...]:
        stages = STAGES if self.encoder else STAGES[:2]
        return stages[1:] if self.scene else stages

    def _name(self, stage: str) -> str:
        return f"{NAMES[stage]}, {self.scene}" if self.scene else NAMES[stage]

    def units(self, task: Task) -> int:
        """Passes of all stages."""
        config, lists = task.dataset.config, len(task.dataset.learn)
        stages = (config.linear, config.net, config.encoder if self.encoder else None)
        return sum(stage.epochs(lists) for stage in stages if stage is not None)

    def fit(self, task: Task, seed: int, tick: Tick) -> Mapping[str, Fitted]:
        """Train the stages on lists of this setting, choose on valid of it; without scene, test is without too."""
        dataset = task.dataset
        learn, valid = dataset.learn, dataset.valid
        if self.scene == WITHOUT:
            learn, valid = without_scene(dataset, learn), without_scene(dataset, valid)
        elif self.scene:
            learn, valid = task.placebos[self.scene].learn, task.placebos[self.scene].valid
        stages = fit_stages(dataset, learn, judge_of(dataset, valid), seed, lambda *_: tick(1))
        kept = {verdict.stage: verdict.kept for verdict in stages.judgements}
        told = None if self.scene else partial(chances, dataset, stages.net)
        return {
            self._name(stage): Fitted(
                self._scoring(task, stages.nets[stage]),
                {"pass kept": kept[stage]},
                stages.seconds[stage],
                told if stage == self._stages()[-1] else None,
            )
            for stage in self._stages()
        }

    def _scoring(self, task: Task, net: Net) -> Score:
        dataset = task.dataset
        judge = judge_of(dataset, dataset.valid)

        def score(examples: Examples) -> Scores:
            seen = without_scene(dataset, examples) if self.scene == WITHOUT else examples
            return scores_of(net, seen.batch, judge.history, judge.device)

        return score


@dataclass(frozen=True)
class Bundled:
    """A bundle as it was trained, over as-of counters; co-visited items are those of the moment, not the bundle's."""

    bundle: Bundle
    seeded: bool = False
    scened: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The bundle's version."""
        return (f"bundle {self.bundle.version}",)

    def units(self, task: Task) -> int:  # noqa: ARG002
        """One."""
        return 1

    def fit(self, task: Task, seed: int, tick: Tick) -> Mapping[str, Fitted]:  # noqa: ARG002
        """Nothing is fitted."""
        tick(1)
        return {self.names[0]: Fitted(self._scoring(task), {"learned until": self.bundle.report.get("until_ms")}, 0.0)}

    def _scoring(self, task: Task) -> Score:
        bundle, dataset = self.bundle, task.dataset
        if bundle.weights is None or bundle.shape is None:
            return lambda examples: bundle.blend.score(examples.batch.near)
        net, device = net_from(bundle.shape, bundle.weights), judge_of(dataset, dataset.valid).device
        net = net.to(device)
        words = np.append(words_of(bundle.words, dataset.recorded.codes), np.int32(0))

        def score(examples: Examples) -> Scores:
            past = examples.batch.past._replace(word=words[examples.batch.past.item])
            batch = examples.batch._replace(word=words[examples.batch.item], past=past)
            return scores_of(net, batch, bundle.history, device)

        return score
