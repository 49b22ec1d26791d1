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
        encoded = self.base.encode(lists.counters)
        score = self.base.linear_score(lists.counters) + self.base.net(encoded).squeeze(-1)
        if self.encoder is not None:
            score = score + self.encoder(lists, encoded)
        lowest = torch.finfo(score.dtype).min
        return score.masked_fill(~lists.real, lowest)  # type: ignore[no-any-return]
