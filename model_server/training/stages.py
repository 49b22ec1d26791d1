"""The fit in three stages, each kept only if it is better on the valid requests: linear, counter net, encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_server.evaluation.metrics import means, ranked
from model_server.ranker.lists import Lists, collate
from model_server.ranker.net import Net
from model_server.training.checkpoints import Checkpoints, Judged, Standing, Work, copied

if TYPE_CHECKING:
    from model_server.counters.batch import CountedBatch
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
class Judgement:
    """What a stage came to: the epoch that was kept (0 = what was there before) and its value on valid."""

    stage: str
    kept: int
    before: float
    after: float
    epochs: tuple[Judged, ...]


class Judge:
    """Scores of the net on examples, and its mean metric there."""

    def __init__(
        self, examples: Examples, popularity: F32, history: int, device: torch.device, batch: int = 64
    ) -> None:
        self.examples = examples
        self._popularity = popularity
        self.history = history
        self.device = device
        self._batch = batch

    def scores(self, net: Net) -> F32:
        """Scores f32[N, C]; padding scores the lowest finite number."""
        return scores_of(net, self.examples.batch, self.history, self.device, self._batch)

    def value(self, net: Net) -> float:
        """Mean NDCG@10."""
        return self.value_of(self.scores(net))

    def value_of(self, scores: F32) -> float:
        """Mean NDCG@10 of given scores f32[N, C]."""
        examples = self.examples
        return means(self.metrics_of(scores))[METRIC] if len(examples) else 0.0

    def metrics_of(self, scores: NDArray[np.number[Any]]) -> dict[str, NDArray[np.float64]]:
        """Every metric of every request."""
        examples = self.examples
        return ranked(scores, self._popularity, examples.batch.item, examples.label, examples.wanted)


def scores_of(net: Net, batch: CountedBatch, history: int, device: torch.device, size: int = 64) -> F32:
    """Scores f32[N, C] of a whole batch, `size` users at a time; padding scores the lowest finite number."""
    net.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, batch.size, size):
            rows = np.arange(start, min(start + size, batch.size))
            parts.append(net(collate(batch, rows, history).to(device)).float().cpu().numpy())
    return np.concatenate(parts)


def hidden_of(net: Net, batch: CountedBatch, history: int, device: torch.device, size: int = 64) -> tuple[F32, F32]:
    """Scores f32[N, C], and the counter net's last hidden layer f32[N, C, H]."""
    net.eval()
    scores: list[F32] = []
    hidden: list[F32] = []
    with torch.inference_mode():
        for start in range(0, batch.size, size):
            rows = np.arange(start, min(start + size, batch.size))
            for part, kept in zip(net.scored(collate(batch, rows, history).to(device)), (scores, hidden), strict=True):
                kept.append(part.float().cpu().numpy())
    return np.concatenate(scores), np.concatenate(hidden)


class Fit:
    """Fits the stages of one net, one after the other; `tick` hears (stage, epoch, epochs, value on valid).

    A stage goes on where `checkpoints` has it, and tells them of every epoch.
    """

    def __init__(
        self,
        net: Net,
        train: Examples,
        judge: Judge,
        generator: np.random.Generator,
        tick: Callable[[str, int, int, float], object] = lambda *_: None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.net = net
        self._train = train
        self._judge = judge
        self._generator = generator
        self._tick = tick
        self._checkpoints = checkpoints or Checkpoints()

    def stage(
        self,
        name: str,
        settings: StageSettings,
        fresh: list[torch.nn.Parameter],
        held: list[torch.nn.Parameter],
    ) -> Judgement:
        """Train `fresh` at the stage's rate, `held` at `slower` times it; keep the best epoch, epoch 0 takes part."""
        judge = self._judge
        optimiser = torch.optim.AdamW(
            [{"params": fresh, "lr": settings.rate}, {"params": held, "lr": settings.rate * settings.slower}],
            weight_decay=settings.decay,
        )
        work = Work(self.net, optimiser, self._generator)
        standing = self._checkpoints.take(name, work)
        if standing is None:
            before = judge.value(self.net)
            standing = Standing(before, before, copied(self.net))
        epochs = settings.epochs(len(self._train))
        for epoch in range(len(standing.epochs) + 1, epochs + 1):
            lists = batches(self._train, settings.batch, judge.history, judge.device, self._generator)
            loss = one_pass(self.net, lists, optimiser)
            standing = standing.after(loss, judge.value(self.net), self.net)
            self._checkpoints.keep(name, standing, work)
            self._tick(name, epoch, epochs, standing.epochs[-1].valid)
        self.net.load_state_dict(standing.weights)
        return Judgement(name, standing.kept, standing.before, standing.best, standing.epochs)


def batches(
    examples: Examples, size: int, history: int, device: torch.device, generator: np.random.Generator
) -> Iterator[tuple[Lists, Tensor]]:
    """All lists once, `size` at a time, in an order of chance, with what was taken of each."""
    order = generator.permutation(len(examples))
    for start in range(0, len(order), size):
        rows = np.sort(order[start : start + size])
        label = torch.from_numpy(examples.label[rows]).to(device)
        yield collate(examples.batch, rows, history).to(device), label


def one_pass(
    net: Net,
    lists: Iterable[tuple[Lists, Tensor]],
    optimiser: torch.optim.Optimizer,
    stepped: Callable[[], object] = lambda: None,
) -> float:
    """Learn from each batch of lists once; `stepped` hears of every step. The mean loss of a list."""
    net.train()
    total, seen = 0.0, 0
    for batch, label in lists:
        loss = listwise_loss(net(batch), batch.real, label)
        net.zero_grad(set_to_none=True)  # of what this stage leaves alone too: the norm below is over all
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        stepped()
        total += float(loss.detach()) * len(label)
        seen += len(label)
    return total / max(seen, 1)


def listwise_loss(score: Tensor, real: Tensor, label: Tensor) -> Tensor:
    """Cross entropy of the softmax over each list against a target uniform over what was taken."""
    likely = torch.log_softmax(score.float().masked_fill(~real, -1e9), dim=1)
    target = label.float() / label.sum(1, keepdim=True).clamp(min=1)
    return -(target * likely).sum(1).mean()
