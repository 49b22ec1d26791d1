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
    speak of each other. 2 G + 2 rows of a counter net a candidate, all at once: one by one most of it is overhead. Net
    and counters are in float32 on any device.
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
    def __call__(self, counters: F32, score: F32) -> list[dict[str, float]]:
        """Shares of the scores f32[N] of candidates with counters f32[N, F]; with BASE, what is there before any, they
        sum to the score.
        """
        own = torch.from_numpy(np.ascontiguousarray(counters)).to(self._net.mean.device)[:, None]
        values: NDArray[np.float64] = self._net(torch.where(self._seen, own, self._net.mean)).double().cpu().numpy()
        upward, downward = np.split(values, 2, axis=1)
        shares = (np.diff(upward) + np.diff(downward)[:, ::-1]) / 2
        base, rest = upward[:, 0], score - upward[:, -1]
        parts = [base, *shares.T, rest] if self._residual else [base + rest, *shares.T]
        names = (BASE, *self._names, *((TRANSFORMER,) if self._residual else ()))
        return [dict(zip(names, row, strict=True)) for row in np.stack(parts, 1).tolist()]
