"""What a score is owed to: the shares of the groups of counters, and of the transformer, which sum to the score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from model_server.scoring import BASE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model_server.ranker.counter_net import CounterNet
    from model_server.scoring import F32

TRANSFORMER = "transformer"


class Because:
    """Shares of a counter net's groups of counters, which lie at `groups`.

    A share is what the score gains when the group is seen after it stood at its means, half as the groups come in their
    order and half in the reverse (Castro et al. 2009, with one antithetic pair of orders): exact where groups do not
    speak of each other. 2 G rows of a counter net for one candidate. Net and counters are in float32 on any device.
    """

    def __init__(self, net: CounterNet, groups: Mapping[str, Sequence[int]], *, residual: bool) -> None:
        self._net = net
        self._names = tuple(groups)
        self._residual = residual
        member = np.zeros((len(groups), len(net.mean)), np.bool_)
        for number, places in enumerate(groups.values()):
            member[number, list(places)] = True
        upward = np.concatenate((np.zeros_like(member[:1]), np.cumsum(member, 0) > 0))
        downward = np.concatenate((np.zeros_like(member[:1]), np.cumsum(member[::-1], 0) > 0))
        self._seen = torch.from_numpy(np.concatenate((upward, downward))).to(net.mean.device)

    @torch.inference_mode()
    def __call__(self, counters: F32, score: float) -> dict[str, float]:
        """Shares of one candidate's `score`, from its counters f32[F]; with BASE, what is there before any, its sum."""
        own = torch.from_numpy(np.ascontiguousarray(counters)).to(self._net.mean.device)
        values: NDArray[np.float64] = self._net(torch.where(self._seen, own, self._net.mean)).double().cpu().numpy()
        upward, downward = np.split(values, 2)
        shares = (np.diff(upward) + np.diff(downward)[::-1]) / 2
        found = {BASE: float(upward[0]), **dict(zip(self._names, shares.tolist(), strict=True))}
        rest = score - float(upward[-1])
        found[TRANSFORMER if self._residual else BASE] = rest + (0.0 if self._residual else found[BASE])
        return found
