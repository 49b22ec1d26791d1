"""In which numbers a net learns: float32, or mixed: products in 16 bits, weights and what they learn in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor, nn

Wish = Literal["auto", "float32", "bfloat16", "float16"]
CLIP = 1.0
"""The greatest norm of a step's gradients."""


class Mixed:
    """How a step is taken. float16 has few exponents: losses are scaled up for it, an overflowing step is left out."""

    def __init__(self, wish: Wish, device: torch.device) -> None:
        """auto: bfloat16 on a CUDA device that has it, float16 on any other CUDA device, float32 elsewhere."""
        self.name = _chosen(device) if wish == "auto" else wish
        self._dtype: torch.dtype = getattr(torch, self.name)
        self._device = device.type
        self.scaler = torch.amp.GradScaler(self._device, enabled=self.name == "float16")

    def products(self) -> AbstractContextManager[object]:
        """Within it, what autocast holds safe is computed in 16 bits."""
        return torch.autocast(self._device, self._dtype, enabled=self.name != "float32")

    def step(self, loss: Tensor, net: nn.Module, optimiser: torch.optim.Optimizer) -> Tensor:
        """Learn from a loss, by gradients of at most CLIP; their norm before that.

        The norm is over all of the net, of what the optimiser leaves alone too.
        """
        net.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(loss))
        self._unscale(net, optimiser)
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        self.scaler.step(optimiser)
        self.scaler.update()
        return norm

    def _unscale(self, net: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        if not self.scaler.is_enabled():
            return
        self.scaler.unscale_(optimiser)
        learned = {id(part) for group in optimiser.param_groups for part in group["params"]}
        for part in net.parameters():
            if part.grad is not None and id(part) not in learned:
                part.grad.div_(self.scaler.get_scale())


def _chosen(device: torch.device) -> str:
    if device.type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
