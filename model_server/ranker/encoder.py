"""The transformer residual: scene, windows, history and candidates of a user in one pass of a `BertModel`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from model_server.ranker.attention import ISOLATING, isolating_mask
from model_server.ranker.lists import Lists

AGES = 32
HOURS = 25
CATEGORIES = 256
SCENE, WINDOW, PAST, CANDIDATE = range(4)


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of the encoder; `words`: trained item ids, the unknown one included; `scene_sizes`: codes of each field.

    `scene_prefix` and `scene_gate` switch the two ways the scene enters, `dropped` is the share of scene fields and ids
    hidden in training, so that a missing scene and an unknown item are normal.
    """

    features: int
    words: int
    kinds: int
    window_kinds: int
    windows: int
    scene_sizes: tuple[int, ...]
    history: int = 50
    bins: int = 8
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    scene_prefix: bool = True
    scene_gate: bool = True
    dropped: float = 0.15
    dropout: float = 0.1

    @property
    def prefix(self) -> int:
        """Tokens before the history."""
        return 1 + (len(self.scene_sizes) if self.scene_prefix else 0) + self.windows


class Encoder(nn.Module):
    """Lists and encoded counters -> a residual score [B, C]; the head starts at zero, so that it starts as nothing."""

    offsets: Tensor

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.shape = shape
        d = shape.hidden
        self.word = nn.Embedding(shape.words, d)
        self.category = nn.Embedding(CATEGORIES, d)
        self.kind = nn.Embedding(shape.kinds, d)
        self.age = nn.Embedding(AGES, d)
        self.hour = nn.Embedding(HOURS, d)
        self.scene = nn.Embedding(sum(shape.scene_sizes), d)
        sizes = torch.tensor((0, *shape.scene_sizes[:-1]))
        self.register_buffer("offsets", torch.cumsum(sizes, 0), persistent=False)
        self.window = nn.Linear(shape.window_kinds, d)
        self.counters = nn.Linear(shape.features * shape.bins, d)
        self.start = nn.Parameter(torch.zeros(d))
        self.gate = nn.Linear(d, d)
        self.same_item = nn.Parameter(torch.zeros(()))
        self.same_category = nn.Parameter(torch.zeros(()))
        bert = BertModel(_config(shape), add_pooling_layer=False)  # type: ignore[no-untyped-call]
        bert.embeddings.word_embeddings.requires_grad_(False)  # tokens come as vectors, and it learns nothing
        self.bert: nn.Module = bert
        self.head = nn.Linear(d, 1, bias=False)
        for table in (self.word, self.category, self.kind, self.age, self.hour, self.scene):
            nn.init.normal_(table.weight, std=0.02)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        nn.init.zeros_(self.head.weight)

    def forward(self, lists: Lists, encoded: Tensor) -> Tensor:
        """`encoded`: piecewise-linear counters [B, C, F * bins]."""
        scene = self._scene(lists.scene)
        prefix = self._prefix(lists, scene)
        candidates = self._candidates(lists, encoded)
        tokens = torch.cat((prefix, candidates), 1)
        prefix_mask, candidate_mask = self._masks(lists, prefix.shape[1], tokens.dtype)
        hidden = self.bert(
            inputs_embeds=tokens,
            prefix_mask=prefix_mask,
            candidate_mask=candidate_mask,
            position_ids=self._positions(prefix.shape[1], lists.item.shape[1], tokens.device),
            token_type_ids=self._types(lists, prefix.shape[1], tokens.device),
        ).last_hidden_state[:, prefix.shape[1] :]
        if self.shape.scene_gate:
            hidden = hidden * (1.0 + self.gate(scene.mean(1)).unsqueeze(1))
        return self.head(hidden).squeeze(-1)  # type: ignore[no-any-return]

    def _scene(self, codes: Tensor) -> Tensor:
        return self.scene(self._hide(codes) + self.offsets)  # type: ignore[no-any-return]

    def _hide(self, codes: Tensor) -> Tensor:
        if not self.training:
            return codes
        return codes * (torch.rand(codes.shape, device=codes.device) >= self.shape.dropped)

    def _prefix(self, lists: Lists, scene: Tensor) -> Tensor:
        start = self.start.expand(len(scene), 1, -1)
        windows = self.window(lists.windows.to(start.dtype))
        past = (
            self.word(self._hide(lists.past_word))
            + self.category(lists.past_category)
            + self.kind(lists.past_kind)
            + self.age(lists.past_age)
            + self.hour(lists.past_hour)
        )
        return torch.cat((start, *((scene,) if self.shape.scene_prefix else ()), windows, past), 1)

    def _candidates(self, lists: Lists, encoded: Tensor) -> Tensor:
        return (  # type: ignore[no-any-return]
            self.counters(encoded) + self.word(self._hide(lists.word)) + self.category(lists.category)
        )

    def _masks(self, lists: Lists, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        before = width - lists.history
        known = torch.ones((len(lists.item), before), dtype=torch.bool, device=lists.item.device)
        item = lists.item.unsqueeze(2) == lists.past_item.unsqueeze(1)
        category = (lists.category.unsqueeze(2) == lists.past_category.unsqueeze(1)) & (lists.category > 0).unsqueeze(2)
        bias = (item * self.same_item + category * self.same_category).to(dtype)
        return isolating_mask(torch.cat((known, lists.recalled), 1), nn.functional.pad(bias, (before, 0)))

    def _positions(self, width: int, candidates: int, device: torch.device) -> Tensor:
        last = self.shape.prefix + self.shape.history
        own = torch.full((candidates,), last, device=device)
        return torch.cat((torch.arange(width, device=device), own)).unsqueeze(0)

    def _types(self, lists: Lists, width: int, device: torch.device) -> Tensor:
        windows, history = self.shape.windows, lists.history
        lengths = torch.tensor((width - windows - history, windows, history, lists.item.shape[1]), device=device)
        kinds = torch.repeat_interleave(torch.tensor((SCENE, WINDOW, PAST, CANDIDATE), device=device), lengths)
        return kinds.expand(len(lists.item), -1)


def _config(shape: EncoderShape) -> BertConfig:
    config = BertConfig(
        vocab_size=1,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=2 * shape.hidden,
        max_position_embeddings=shape.prefix + shape.history + 1,
        type_vocab_size=4,
        hidden_dropout_prob=shape.dropout,
        attention_probs_dropout_prob=0.0,
    )
    config._attn_implementation = ISOLATING
    return config
