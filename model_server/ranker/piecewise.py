"""Piecewise-linear encoding of numbers (Gorishniy et al. 2022): each feature becomes its fill of quantile bins."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def edges_of(values: NDArray[np.float32], bins: int) -> NDArray[np.float32]:
    """Bin edges f32[F, bins + 1] of values f32[N, F]: the least value, then quantiles of what lies above it.

    Most counters are zero most of the time; quantiles of all values would spend every bin on that zero.
    """
    edges = np.empty((values.shape[1], bins + 1), np.float32)
    for feature, column in enumerate(values.T):
        least = column.min() if len(column) else np.float32(0)
        above = column[column > least]
        edges[feature, 0] = least
        edges[feature, 1:] = np.quantile(above, np.linspace(0, 1, bins + 1)[1:]) if len(above) else least
    return edges


class PiecewiseLinear(nn.Module):
    """x[..., F] -> [..., F * bins]; a bin of no width stays empty."""

    low: Tensor
    scale: Tensor

    def __init__(self, features: int, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.width = features * bins
        self.register_buffer("low", torch.zeros(features, bins))
        self.register_buffer("scale", torch.ones(features, bins))

    def set_edges(self, edges: NDArray[np.float32]) -> None:
        """Take the bin edges f32[F, bins + 1]."""
        width = np.diff(edges, axis=1)
        self.low.copy_(torch.from_numpy(edges[:, :-1].copy()))
        self.scale.copy_(torch.from_numpy(np.where(width > 1e-6, 1 / np.maximum(width, 1e-6), 0.0).astype(np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        fill = (x.unsqueeze(-1) - self.low) * self.scale
        return fill.clamp_(0.0, 1.0).flatten(-2)
