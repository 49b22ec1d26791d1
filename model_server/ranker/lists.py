"""What the ranker's net reads: one padded batch of requests and their candidates as tensors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_server.counters.batch import CountedBatch


class Lists(NamedTuple):
    """B requests, C candidates, H history entries (newest first), S scene fields, K kinds by W windows.

    counters f32[B, C, F]; real bool[B, C]; item, word, category i64[B, C]; past_* i64[B, H]; recalled bool[B, H];
    windows f32[B, W, K] as log1p; scene i64[B, S]. `word` is the trained id of an item, 0 unknown.
    """

    counters: Tensor
    real: Tensor
    item: Tensor
    word: Tensor
    category: Tensor
    past_item: Tensor
    past_word: Tensor
    past_category: Tensor
    past_kind: Tensor
    past_age: Tensor
    past_hour: Tensor
    recalled: Tensor
    windows: Tensor
    scene: Tensor

    def to(self, device: torch.device) -> Lists:
        """The same batch on `device`."""
        return Lists(*(part.to(device, non_blocking=True) for part in self))

    @property
    def history(self) -> int:
        """Width of the history."""
        return self.past_item.shape[1]


def collate(batch: CountedBatch, rows: NDArray[np.intp], history: int) -> Lists:
    """Tensors of the requests at `rows`, their histories cut to the newest `history` entries."""
    past = batch.past
    cut = slice(0, history)

    def index(part: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(part[rows].astype(np.int64))

    return Lists(
        counters=torch.from_numpy(batch.counters[rows]),
        real=torch.from_numpy(batch.item[rows] >= 0),
        item=index(batch.item),
        word=index(batch.word),
        category=index(batch.category),
        past_item=index(past.item[:, cut]),
        past_word=index(past.word[:, cut]),
        past_category=index(past.category[:, cut]),
        past_kind=index(past.kind[:, cut]),
        past_age=index(past.age[:, cut]),
        past_hour=index(past.hour[:, cut]),
        recalled=torch.from_numpy(past.valid[rows][:, cut]),
        windows=torch.from_numpy(batch.windows[rows]),
        scene=index(batch.scene),
    )
