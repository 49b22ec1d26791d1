"""The counter net: a linear score over standardised counters plus a small net over their piecewise-linear encoding."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_server.ranker.piecewise import PiecewiseLinear, edges_of


class CounterNet(nn.Module):
    """Counters [..., F] -> score [...]; the net's last layer starts at zero, so that it starts as the linear score."""

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, bins: int = 8, widths: tuple[int, int] = (128, 64), dropout: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.linear = nn.Linear(features, 1, bias=False)
        self.encode = PiecewiseLinear(features, bins)
        self.net = nn.Sequential(
            nn.Linear(self.encode.width, widths[0]),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(widths[0], widths[1]),
            nn.GELU(),
            nn.Linear(widths[1], 1, bias=False),
        )
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.last.weight)

    @property
    def last(self) -> nn.Linear:
        """The layer that starts at zero."""
        return cast("nn.Linear", self.net[-1])

    def learn_scales(self, counters: NDArray[np.float32]) -> None:
        """Take mean, deviation and bin edges from counters f32[N, F] of training candidates."""
        deviation = counters.std(0)
        self.mean.copy_(torch.from_numpy(counters.mean(0)))
        self.scale.copy_(torch.from_numpy(np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0.0)))
        self.encode.set_edges(edges_of(counters, self.encode.bins))

    def linear_score(self, counters: Tensor) -> Tensor:
        """The linear part alone; far outliers of live data are held at ten deviations."""
        standard = ((counters - self.mean) * self.scale).clamp(-10.0, 10.0)
        return self.linear(standard).squeeze(-1)  # type: ignore[no-any-return]

    def hidden(self, encoded: Tensor) -> Tensor:
        """The last hidden layer [..., H] of encoded counters [..., F * bins]."""
        return self.net[:-1](encoded)  # type: ignore[no-any-return]

    def forward(self, counters: Tensor) -> Tensor:
        return self.linear_score(counters) + self.net(self.encode(counters)).squeeze(-1)  # type: ignore[no-any-return]
