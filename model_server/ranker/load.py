"""A served ranker from the arrays of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from model_server.ranker.cores import serving_threads
from model_server.ranker.device import device_of, use_threads
from model_server.ranker.live import NetRanker
from model_server.ranker.net import Net, NetShape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model_server.heads.heads import Heads
    from model_server.preparation import Preparation
    from model_server.selection import Calibration


def net_of(
    version: str,
    preparation: Preparation,
    shape: Mapping[str, Any],
    weights: Mapping[str, NDArray[Any]],
    meaning: tuple[Calibration, Heads],
    device: str,
) -> NetRanker:
    """Build, fill and warm up. Raises RuntimeError, KeyError or TypeError where the weights do not fit the shape.

    `meaning`: what scores mean.
    """
    use_threads(serving_threads())
    ranker = NetRanker(version, preparation, net_from(shape, weights), *meaning, device_of(device))
    ranker.warm_up()
    return ranker


def net_from(shape: Mapping[str, Any], weights: Mapping[str, NDArray[Any]]) -> Net:
    """The net of a bundle. Raises RuntimeError, KeyError or TypeError where the weights do not fit the shape."""
    net = Net(NetShape.of(dict(shape)))
    net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return net
