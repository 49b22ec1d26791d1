"""Where an interrupted fit stood: after every pass weights, optimiser and chance, so that it goes on to the same end.

<folder>/<stage>.safetensors     tensors, and as metadata the numbers beside them and what they were fitted from

A training that is asked for again, of the same examples with the same settings, goes on from there and ends with the
same weights bit for bit; one of anything else begins anew and writes over it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model_server.ranker.net import Net
    from model_server.training.dataset import Dataset
    from model_server.training.examples import Examples

FOLDER = ".training"
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Judged:
    """What one epoch came to on the valid requests."""

    epoch: int
    loss: float
    valid: float


@dataclass(frozen=True)
class Standing:
    """How far a stage has come: epochs done, its value on valid before the first, and the best so far (epoch 0 counts).

    `weights` are those of the best.
    """

    before: float
    best: float
    weights: Weights
    kept: int = 0
    epochs: tuple[Judged, ...] = ()

    def after(self, loss: float, valid: float, net: Net) -> Standing:
        """One epoch later."""
        epoch = len(self.epochs) + 1
        told = replace(self, epochs=(*self.epochs, Judged(epoch, loss, valid)))
        return replace(told, best=valid, kept=epoch, weights=copied(net)) if valid > self.best else told


@dataclass(frozen=True)
class Work:
    """What a stage changes as it goes."""

    net: Net
    optimiser: torch.optim.Optimizer
    generator: np.random.Generator


class Checkpoints:
    """Keeps the standing of every stage in a folder; without one it keeps nothing."""

    def __init__(self, folder: Path | None = None, of: str = "") -> None:
        self._folder, self._of = folder, of

    @classmethod
    def beside(cls, models: Path | None, dataset: Dataset, seed: int) -> Checkpoints:
        """In the folder of the bundles, of a fit of this dataset under this seed."""
        return cls() if models is None else cls(models / FOLDER, fingerprint(dataset, seed))

    def keep(self, stage: str, standing: Standing, work: Work) -> None:
        """Write down how far a stage is, in one step that a kill leaves whole."""
        from safetensors.torch import save_file

        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        numbers = {**dataclasses.asdict(replace(standing, weights={})), "chance": work.generator.bit_generator.state}
        metadata = {"of": self._of, "at": json.dumps(numbers)}  # its integers have 128 bits
        path = self._folder / f"{stage}.safetensors"
        draft = path.with_suffix(".draft")
        save_file(_tensors(standing, work), draft, metadata)
        draft.replace(path)

    def take(self, stage: str, work: Work) -> Standing | None:
        """Bring `work` to where an interrupted fit of the same examples left it; None where there is none."""
        from safetensors import SafetensorError, safe_open

        if self._folder is None:
            return None
        try:
            with safe_open(self._folder / f"{stage}.safetensors", "pt") as file:
                metadata = file.metadata()
                if metadata["of"] != self._of:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError):
            return None
        if _shapes(_part(tensors, "now.")) != _shapes(work.net.state_dict()):  # of another release
            return None
        numbers: dict[str, Any] = json.loads(metadata["at"])
        _restore(work, tensors, numbers.pop("chance"))
        epochs = tuple(Judged(**judged) for judged in numbers.pop("epochs"))
        return Standing(**{**numbers, "epochs": epochs, "weights": _part(tensors, "best.")})

    def clear(self) -> None:
        """Forget everything: the fit came to its end."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def fingerprint(dataset: Dataset, seed: int) -> str:
    """Another one for other examples, counters or settings."""
    digest = hashlib.blake2b(digest_size=16)
    settings = replace(dataset.config, model_dir=None, projection=None)
    digest.update(repr((seed, settings, dataset.preparation.counters.names)).encode())
    for examples in (dataset.learn, dataset.valid):
        for part in _arrays(examples):
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def copied(net: Net) -> Weights:
    """The weights as they are now."""
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def _arrays(examples: Examples) -> tuple[np.ndarray[Any, Any], ...]:
    batch = examples.batch
    return (examples.label, examples.wanted, examples.request, batch.item, batch.counters, batch.scene, *batch.past)


def _tensors(standing: Standing, work: Work) -> Weights:
    """All of it under names; what shares memory is copied, which safetensors asks for."""
    tensors = {f"best.{name}": value for name, value in standing.weights.items()}
    tensors |= {f"now.{name}": value for name, value in copied(work.net).items()}
    for number, state in work.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in state.items()}
    tensors["chance"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["chance of cuda"] = torch.cuda.get_rng_state()
    return {name: value.detach().clone().contiguous() for name, value in tensors.items()}


def _restore(work: Work, tensors: Mapping[str, Tensor], chance: dict[str, Any]) -> None:
    work.net.load_state_dict(_part(tensors, "now."))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, "optimiser.").items():
        number, _, field = name.partition(".")
        state.setdefault(int(number), {})[field] = value
    groups = work.optimiser.state_dict()["param_groups"]
    work.optimiser.load_state_dict({"state": state, "param_groups": groups})
    work.generator.bit_generator.state = chance
    torch.set_rng_state(tensors["chance"])
    if "chance of cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["chance of cuda"])


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
