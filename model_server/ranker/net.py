"""The whole net: counter net plus transformer residual, and what must be known to build it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model_server.ranker.counter_net import CounterNet
from model_server.ranker.encoder import Encoder, EncoderShape
from model_server.ranker.lists import Lists

STAGES = ("linear", "counter net", "encoder")


@dataclass(frozen=True)
class NetShape:
    """Sizes of the net; without `encoder` the counter net serves alone."""

    features: int
    encoder: EncoderShape | None = None
    bins: int = 8
    widths: tuple[int, int] = (128, 64)

    @classmethod
    def of(cls, stored: dict[str, Any]) -> NetShape:
        """The shape a bundle stored. Raises TypeError or KeyError on fields of another version."""
        encoder = stored["encoder"]
        if encoder is not None:
            encoder = EncoderShape(**{**encoder, "scene_sizes": tuple(encoder["scene_sizes"])})
        return cls(**{**stored, "encoder": encoder, "widths": tuple(stored["widths"])})


class Net(nn.Module):
    """Lists -> scores [B, C]; padding scores the lowest finite number."""

    def __init__(self, shape: NetShape) -> None:
        super().__init__()
        self.shape = shape
        self.base = CounterNet(shape.features, shape.bins, shape.widths)
        self.encoder = Encoder(shape.encoder) if shape.encoder is not None else None

    def forward(self, lists: Lists) -> Tensor:
        return self.scored(lists)[0]

    def scored(self, lists: Lists) -> tuple[Tensor, Tensor]:
        """The scores, and the counter net's last hidden layer [B, C, H]: what the heads look at."""
        encoded = self.base.encode(lists.counters)
        hidden = self.base.hidden(encoded)
        score = self.base.linear_score(lists.counters) + self.base.last(hidden).squeeze(-1)
        if self.encoder is not None:
            score = score + self.encoder(lists, encoded)
        lowest = torch.finfo(score.dtype).min
        return score.masked_fill(~lists.real, lowest), hidden
