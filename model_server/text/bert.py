"""A BERT encoder that reads titles: mean of its last tokens, batches of titles of like length, unit vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from model_server.text.back_end import plain

if TYPE_CHECKING:
    from model_server.retrieval.pairs import F32

TOKENS = 64
"""Tokens of a title that are read."""
BATCH = 64

Tokenise = Callable[[list[str]], list[list[int]]]
"""Texts -> ids of each, with the special tokens of the model, at most `TOKENS`."""


class BertTitles:
    """`model` is a transformers.BertModel, `words` gives the vectors of ids; `prefix` comes before every title."""

    def __init__(
        self, name: str, model: Any, tokenise: Tokenise, words: Callable[[Tensor], Tensor], prefix: str = ""
    ) -> None:
        self.name = name
        self.width = int(model.config.hidden_size)
        self._model = model.eval().requires_grad_(False)
        self._tokenise, self._words, self._prefix = tokenise, words, prefix

    def embed(self, titles: Sequence[str]) -> F32:
        """Vectors f32[N, D] of unit length; 0 for a title in which there is nothing to read."""
        read = [plain(title) for title in titles]
        vectors = np.zeros((len(read), self.width), np.float32)
        there = [row for row, title in enumerate(read) if title]
        tokens = self._tokenise([self._prefix + read[row] for row in there]) if there else []
        by_length = np.argsort([len(ids) for ids in tokens], kind="stable")
        for start in range(0, len(by_length), BATCH):
            some = by_length[start : start + BATCH]
            vectors[[there[at] for at in some]] = self._forward([tokens[at] for at in some])
        return vectors

    @torch.inference_mode()
    def _forward(self, tokens: list[list[int]]) -> F32:
        width = max(map(len, tokens))
        ids = torch.zeros((len(tokens), width), dtype=torch.long)
        mask = torch.zeros((len(tokens), width), dtype=torch.long)
        for row, each in enumerate(tokens):
            ids[row, : len(each)], mask[row, : len(each)] = torch.tensor(each), 1
        last = self._model(inputs_embeds=self._words(ids), attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(-1).to(last.dtype)
        mean = (last * weight).sum(1) / weight.sum(1)
        unit: F32 = torch.nn.functional.normalize(mean, dim=1).numpy()
        return unit
