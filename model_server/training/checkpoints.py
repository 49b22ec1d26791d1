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

from model_server.ranker.device import device_of
from model_server.training.mixed import Mixed
from model_server.training.ranks import Ranks

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
    scaler: torch.amp.GradScaler


class Checkpoints:
    """Keeps the standing of every stage in a folder; without one it keeps nothing.

    Of several processes the first one alone has the folder, and what it holds goes to all of them.
    """

    def __init__(self, folder: Path | None = None, of: str = "", ranks: Ranks | None = None) -> None:
        self._folder, self._of, self._ranks = folder, of, ranks or Ranks()

    @classmethod
    def beside(cls, models: Path | None, dataset: Dataset, seed: int, ranks: Ranks) -> Checkpoints:
        """In the folder of the bundles, of a fit of this dataset by so many processes under this seed."""
        if models is None:
            return cls(ranks=ranks)
        return cls(models / FOLDER, fingerprint(dataset, seed, ranks.world), ranks)

    def keep(self, stage: str, standing: Standing, work: Work) -> None:
        """Write down how far a stage is, in one step that a kill leaves whole."""
        from safetensors.torch import save_file

        drawn = {f"chance.{rank}": state for rank, state in enumerate(self._ranks.gathered(torch.get_rng_state()))}
        if torch.cuda.is_available():
            states = self._ranks.gathered(torch.cuda.get_rng_state())
            drawn |= {f"chance of cuda.{rank}": state for rank, state in enumerate(states)}
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        numbers = {
            **dataclasses.asdict(replace(standing, weights={})),
            "chance": work.generator.bit_generator.state,
            "scaler": work.scaler.state_dict(),
        }
        metadata = {"of": self._of, "at": json.dumps(numbers)}  # its integers have 128 bits
        path = self._folder / f"{stage}.safetensors"
        draft = path.with_suffix(".draft")
        save_file(_whole({**_tensors(standing, work), **drawn}), draft, metadata)
        draft.replace(path)

    def take(self, stage: str, work: Work) -> Standing | None:
        """Bring `work` to where an interrupted fit of the same examples left it; None where there is none."""
        from safetensors.torch import load

        content = self._ranks.share(self._content(stage, work))
        if not content:
            return None
        tensors, numbers = load(content), json.loads(_metadata(content)["at"])
        _restore(work, tensors, numbers, self._ranks.rank)
        epochs = tuple(Judged(**judged) for judged in numbers["epochs"])
        before, best, kept = (numbers[name] for name in ("before", "best", "kept"))
        return Standing(before, best, _part(tensors, "best."), kept, epochs)

    def _content(self, stage: str, work: Work) -> bytes:
        """The file of a stage, nothing where none is whole and of this fit."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        if self._folder is None:
            return b""
        try:
            content = (self._folder / f"{stage}.safetensors").read_bytes()
            tensors, of = load(content), _metadata(content)["of"]
        except (OSError, SafetensorError):
            return b""
        known = _shapes(_part(tensors, "now.")) == _shapes(work.net.state_dict())  # else of another release
        return content if known and of == self._of else b""

    def clear(self) -> None:
        """Forget everything: the fit came to its end."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def fingerprint(dataset: Dataset, seed: int, processes: int) -> str:
    """Another one for other examples, counters or settings."""
    digest = hashlib.blake2b(digest_size=16)
    settings = replace(dataset.config, model_dir=None, projection=None)
    numbers = Mixed(settings.precision, device_of(settings.device)).name
    digest.update(repr((seed, settings, numbers, processes, dataset.preparation.counters.names)).encode())
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
    """Weights and optimiser under names."""
    tensors = {f"best.{name}": value for name, value in standing.weights.items()}
    tensors |= {f"now.{name}": value for name, value in copied(work.net).items()}
    for number, state in work.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in state.items()}
    return tensors


def _whole(tensors: Weights) -> Weights:
    """Copies: what shares memory safetensors does not write."""
    return {name: value.detach().clone().contiguous() for name, value in tensors.items()}


def _metadata(content: bytes) -> dict[str, str]:
    """What stands beside the tensors of a safetensors file."""
    length = int.from_bytes(content[:8], "little")
    found: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return found


def _restore(work: Work, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], rank: int) -> None:
    work.net.load_state_dict(_part(tensors, "now."))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, "optimiser.").items():
        number, _, field = name.partition(".")
        state.setdefault(int(number), {})[field] = value
    groups = work.optimiser.state_dict()["param_groups"]
    work.optimiser.load_state_dict({"state": state, "param_groups": groups})
    work.generator.bit_generator.state = numbers["chance"]
    work.scaler.load_state_dict(numbers["scaler"])
    torch.set_rng_state(tensors[f"chance.{rank}"])
    if (drawn := tensors.get(f"chance of cuda.{rank}")) is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(drawn)


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
