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

    counters f32[B, C, F]; real bool[B, C]; item, word, category i32[B, C]; past_* i32[B, H]; recalled bool[B, H];
    windows f32[B, W, K] as log1p; scene i32[B, S]. `word` is the trained id of an item, 0 unknown.
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
    """Tensors of the requests at `rows`, their histories cut to the newest `history` entries.

    Of requests that follow each other the tensors are the batch's own memory: nothing is copied.
    """
    past, part_of = batch.past, _run(rows)
    cut = slice(0, history)

    def index(part: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(part[part_of].astype(np.int32, copy=False))

    return Lists(
        counters=torch.from_numpy(batch.counters[part_of]),
        real=torch.from_numpy(batch.item[part_of] >= 0),
        item=index(batch.item),
        word=index(batch.word),
        category=index(batch.category),
        past_item=index(past.item[:, cut]),
        past_word=index(past.word[:, cut]),
        past_category=index(past.category[:, cut]),
        past_kind=index(past.kind[:, cut]),
        past_age=index(past.age[:, cut]),
        past_hour=index(past.hour[:, cut]),
        recalled=torch.from_numpy(past.valid[part_of][:, cut]),
        windows=torch.from_numpy(batch.windows[part_of]),
        scene=index(batch.scene),
    )


def _run(rows: NDArray[np.intp]) -> NDArray[np.intp] | slice:
    """The rows as a slice, where each follows the one before."""
    first = int(rows[0]) if len(rows) else 0
    return slice(first, first + len(rows)) if np.array_equal(rows, np.arange(first, first + len(rows))) else rows
