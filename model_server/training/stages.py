"""The fit in three stages, each kept only if it is better on the valid requests: linear, counter net, encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_server.evaluation.metrics import means, ranked
from model_server.ranker.lists import Lists, collate
from model_server.ranker.net import Net
from model_server.training.checkpoints import Checkpoints, Judged, Standing, Work, copied
from model_server.training.mixed import Mixed, Wish
from model_server.training.ranks import Ranks

if TYPE_CHECKING:
    from model_server.counters.batch import CountedBatch
    from model_server.training.examples import Examples

F32 = NDArray[np.float32]
METRIC = "ndcg@10"
ALONE = Ranks()


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
        self.popularity = popularity
        self.history = history
        self.device = device
        self._batch = batch

    def scores(self, net: Net) -> F32:
        """Scores f32[N, C]; padding scores the lowest finite number."""
        return scores_of(net, self.examples.batch, self.history, self.device, self._batch)

    def value(self, net: Net, ranks: Ranks = ALONE) -> float:
        """Mean NDCG@10; each of the processes scores a part, and all hear the same number."""
        batch = self.examples.batch
        return ranks.agreed(self.value_of(scores_of(net, batch, self.history, self.device, self._batch, ranks)))

    def value_of(self, scores: F32) -> float:
        """Mean NDCG@10 of given scores f32[N, C]."""
        examples = self.examples
        return means(self.metrics_of(scores))[METRIC] if len(examples) else 0.0

    def metrics_of(self, scores: NDArray[np.number[Any]]) -> dict[str, NDArray[np.float64]]:
        """Every metric of every request."""
        examples = self.examples
        return ranked(scores, self.popularity, examples.batch.item, examples.label, examples.wanted)


def scores_of(
    net: Net, batch: CountedBatch, history: int, device: torch.device, size: int = 64, ranks: Ranks = ALONE
) -> F32:
    """Scores f32[N, C] of a whole batch, `size` users at a time; padding scores the lowest finite number."""
    net.eval()
    scores = np.zeros(batch.item.shape, np.float32)
    with torch.inference_mode():
        for start in ranks.part(np.arange(0, batch.size, size)).tolist():
            rows = np.arange(start, min(start + size, batch.size))
            scores[rows] = net(collate(batch, rows, history).to(device)).float().cpu().numpy()
    return ranks.summed(scores)


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


class Passed(NamedTuple):
    """What one pass came to: mean loss of a list, value on valid, rate, and the mean norm of a step's gradients.

    `again`: it was done before an interruption, and its norm is not known any more.
    """

    stage: str
    epoch: int
    epochs: int
    loss: float
    valid: float
    rate: float
    norm: float
    again: bool = False


@dataclass(frozen=True)
class Around:
    """What surrounds a fit: who hears of its passes, where they are kept, the other processes, in which numbers."""

    tick: Callable[[Passed], object] = lambda _: None
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    ranks: Ranks = ALONE
    precision: Wish = "float32"


class Fit:
    """Fits the stages of one net, one after the other.

    A stage goes on where the checkpoints have it, and tells them of every epoch.
    """

    def __init__(
        self, net: Net, train: Examples, judge: Judge, generator: np.random.Generator, around: Around | None = None
    ) -> None:
        self.net = net
        self._train = train
        self._judge = judge
        self._generator = generator
        self._around = around or Around()

    def stage(
        self,
        name: str,
        settings: StageSettings,
        fresh: list[torch.nn.Parameter],
        held: list[torch.nn.Parameter],
    ) -> Judgement:
        """Train `fresh` at the stage's rate, `held` at `slower` times it; keep the best epoch, epoch 0 takes part."""
        judge, around = self._judge, self._around
        ranks, tick = around.ranks, around.tick
        optimiser = torch.optim.AdamW(
            [{"params": fresh, "lr": settings.rate}, {"params": held, "lr": settings.rate * settings.slower}],
            weight_decay=settings.decay,
        )
        mixed, parallel = Mixed(around.precision, judge.device), ranks.parallel(self.net)
        work = Work(self.net, optimiser, self._generator, mixed.scaler)
        standing = around.checkpoints.take(name, work)
        if standing is None:
            before = judge.value(self.net, ranks)
            standing = Standing(before, before, copied(self.net))
        epochs = settings.epochs(len(self._train))
        for judged in standing.epochs:
            tick(Passed(name, judged.epoch, epochs, judged.loss, judged.valid, settings.rate, np.nan, again=True))
        for epoch in range(len(standing.epochs) + 1, epochs + 1):
            lists = batches(self._train, settings.batch, judge, self._generator, ranks)
            loss, norm = one_pass(parallel, lists, optimiser, mixed, ranks)
            standing = standing.after(loss, judge.value(self.net, ranks), self.net)
            around.checkpoints.keep(name, standing, work)
            tick(Passed(name, epoch, epochs, loss, standing.epochs[-1].valid, settings.rate, norm))
        self.net.load_state_dict(standing.weights)
        return Judgement(name, standing.kept, standing.before, standing.best, standing.epochs)


class Batch(NamedTuple):
    """B lists, what was taken of each, what each weighs f32[B], and the weight of the batch over all processes."""

    lists: Lists
    label: Tensor
    weight: Tensor
    whole: float


def batches(
    examples: Examples, size: int, judge: Judge, generator: np.random.Generator, ranks: Ranks = ALONE
) -> Iterator[Batch]:
    """All lists once, `size` at a time, in an order of chance; of each batch the part of this process.

    Who has no part in a small batch has a list of it that weighs nothing: all take every step.
    """
    order = generator.permutation(len(examples))
    for start in range(0, len(order), size):
        whole = np.sort(order[start : start + size])
        part = ranks.part(whole)
        rows = part if len(part) else whole[:1]
        weight = torch.full((len(rows),), float(len(part) > 0))
        lists = collate(examples.batch, rows, judge.history).to(judge.device)
        label = torch.from_numpy(examples.label[rows]).to(judge.device)
        yield Batch(lists, label, weight.to(judge.device), float(len(whole)))


def one_pass(
    net: torch.nn.Module,
    lists: Iterable[Batch],
    optimiser: torch.optim.Optimizer,
    mixed: Mixed,
    ranks: Ranks = ALONE,
    stepped: Callable[[], object] = lambda: None,
) -> tuple[float, float]:
    """Learn from each batch of lists once; `stepped` hears of every step.

    The mean loss of a list over all processes, and the mean norm of a step's gradients.
    """
    net.train()
    losses, weights, norms = [], [], []
    for batch in lists:
        with mixed.products():
            score = net(batch.lists)
        loss = (listwise_loss(score, batch.lists.real, batch.label) * batch.weight).sum()
        # The mean of the processes' gradients is to be that of the mean over the whole batch, however it was parted.
        norms.append(mixed.step(loss * ranks.world / batch.whole, net, optimiser))
        stepped()
        losses.append(loss.detach())
        weights.append(batch.weight.sum())
    if not losses:
        return 0.0, 0.0
    sums = torch.stack((torch.stack(losses), torch.stack(weights))).double().sum(1).cpu().numpy()
    total, seen = ranks.summed(sums)
    return float(total / seen), float(torch.stack(norms).mean())


def listwise_loss(score: Tensor, real: Tensor, label: Tensor) -> Tensor:
    """Cross entropy f32[B] of the softmax over each list against a target uniform over what was taken."""
    likely = torch.log_softmax(score.float().masked_fill(~real, -1e9), dim=1)
    target = label.float() / label.sum(1, keepdim=True).clamp(min=1)
    return -(target * likely).sum(1)
