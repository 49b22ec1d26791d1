"""The fit in three stages, each kept only if it is better on the valid requests: linear, counter net, encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_server.evaluation.metrics import means, ranked
from model_server.ranker.lists import Lists, collate
from model_server.ranker.net import Net

if TYPE_CHECKING:
    from model_server.training.examples import Examples

F32 = NDArray[np.float32]
METRIC = "ndcg@10"


@dataclass(frozen=True)
class StageSettings:
    """How one stage learns; `passes` at least, more while fewer than `steps` batches were seen, `most` at most."""

    rate: float
    passes: int
    steps: int = 0
    most: int = 20
    decay: float = 0.0
    batch: int = 64
    slower: float = 1.0

    def epochs(self, lists: int) -> int:
        """Passes over so many lists."""
        each = max(-(-lists // self.batch), 1)
        return min(max(self.passes, -(-self.steps // each)), max(self.most, self.passes))


@dataclass(frozen=True)
class Judged:
    """What one epoch came to on the valid requests."""

    epoch: int
    loss: float
    valid: float


@dataclass(frozen=True)
class Verdict:
    """What a stage came to: the epoch that was kept (0 = what was there before) and its value on valid."""

    stage: str
    kept: int
    before: float
    after: float
    epochs: list[Judged]


class Judge:
    """Scores of the net on examples, and its mean metric there."""

    def __init__(
        self, examples: Examples, popularity: F32, history: int, device: torch.device, batch: int = 64
    ) -> None:
        self.examples = examples
        self._popularity = popularity
        self._history = history
        self._device = device
        self._batch = batch

    def scores(self, net: Net, *, linear: bool = False) -> F32:
        """Scores f32[N, C]; padding scores the lowest finite number."""
        net.eval()
        parts = []
        with torch.inference_mode():
            for start in range(0, len(self.examples), self._batch):
                rows = np.arange(start, min(start + self._batch, len(self.examples)))
                lists = collate(self.examples.batch, rows, self._history).to(self._device)
                parts.append((net.base.linear_score(lists.counters) if linear else net(lists)).float().cpu().numpy())
        return np.concatenate(parts)

    def value(self, net: Net) -> float:
        """Mean NDCG@10."""
        return self.value_of(self.scores(net))

    def value_of(self, scores: F32) -> float:
        """Mean NDCG@10 of given scores f32[N, C]."""
        examples = self.examples
        return means(ranked(scores, self._popularity, examples.batch.item, examples.label, examples.wanted))[METRIC]


def fit_stage(
    name: str,
    net: Net,
    fresh: list[torch.nn.Parameter],
    held: list[torch.nn.Parameter],
    settings: StageSettings,
    train: Examples,
    judge: Judge,
    generator: np.random.Generator,
    tick: Callable[[str, int, int, float], object],
) -> Verdict:
    """Train `fresh` at the stage's rate and `held` at `slower` times it; leave the net at its best epoch, epoch 0 included."""
    before = judge.value(net)
    best, kept, state = before, 0, _copy(net)
    optimiser = torch.optim.AdamW(
        [{"params": fresh, "lr": settings.rate}, {"params": held, "lr": settings.rate * settings.slower}],
        weight_decay=settings.decay,
    )
    judged = []
    epochs = settings.epochs(len(train))
    for epoch in range(1, epochs + 1):
        loss = _one_pass(net, optimiser, settings, train, judge, generator)
        value = judge.value(net)
        judged.append(Judged(epoch, loss, value))
        tick(name, epoch, epochs, value)
        if value > best:
            best, kept, state = value, epoch, _copy(net)
    net.load_state_dict(state)
    return Verdict(name, kept, before, best, judged)


def _one_pass(
    net: Net,
    optimiser: torch.optim.Optimizer,
    settings: StageSettings,
    train: Examples,
    judge: Judge,
    generator: np.random.Generator,
) -> float:
    net.train()
    total, seen = 0.0, 0
    for lists, label in _batches(train, settings.batch, judge, generator):
        loss = listwise_loss(net(lists), lists.real, label)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        total += float(loss.detach()) * len(label)
        seen += len(label)
    return total / max(seen, 1)


def _batches(
    train: Examples, size: int, judge: Judge, generator: np.random.Generator
) -> Iterator[tuple[Lists, Tensor]]:
    order = generator.permutation(len(train))
    for start in range(0, len(order), size):
        rows = np.sort(order[start : start + size])
        device = judge._device
        yield collate(train.batch, rows, judge._history).to(device), torch.from_numpy(train.label[rows]).to(device)


def listwise_loss(score: Tensor, real: Tensor, label: Tensor) -> Tensor:
    """Cross entropy of the softmax over each list against a target uniform over what was taken."""
    likely = torch.log_softmax(score.float().masked_fill(~real, -1e9), dim=1)
    target = label.float() / label.sum(1, keepdim=True).clamp(min=1)
    return -(target * likely).sum(1).mean()


def _copy(net: Net) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}
