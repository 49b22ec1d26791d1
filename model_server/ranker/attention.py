"""Candidate-isolating attention: a candidate sees the prefix and itself, nothing sees a candidate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

ISOLATING = "kairos_isolating"
"""Name of the attention in a transformers config; its masks come as keyword arguments of the model's forward."""


def isolating_mask(prefix: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Additive masks over the prefix's keys: ([B, 1, 1, P] for the prefix, [B, 1, C, P] for the candidates).

    prefix bool[B, P], False = padding; bias f32[B, C, P] is added for the candidates. That a candidate sees itself and
    no other is the attention's own shape, not a mask: no score is ever computed between two candidates.
    """
    shut = torch.zeros(prefix.shape, dtype=bias.dtype, device=prefix.device)
    shut = shut.masked_fill(~prefix, torch.finfo(bias.dtype).min)[:, None, None, :]
    return shut, torch.where(prefix[:, None, None, :], bias[:, None], torch.finfo(bias.dtype).min)


def isolating_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    prefix_mask: Tensor,
    candidate_mask: Tensor,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention over heads [B, h, P + C, d], costing P x P + C x (P + 1) instead of the square of P + C."""
    del module, attention_mask
    width = prefix_mask.shape[-1]
    keys, values = key[:, :, :width], value[:, :, :width]
    shared = nn.functional.scaled_dot_product_attention(
        query[:, :, :width], keys, values, attn_mask=prefix_mask.to(query.dtype), scale=scaling
    )
    asked = query[:, :, width:]
    to_prefix = asked @ keys.transpose(-1, -2) * scaling + candidate_mask
    to_itself = (asked * key[:, :, width:]).sum(-1, keepdim=True) * scaling
    weight = torch.cat((to_prefix, to_itself.to(to_prefix.dtype)), -1).softmax(-1).to(value.dtype)
    found = weight[..., :width] @ values + weight[..., width:] * value[:, :, width:]
    return torch.cat((shared, found), 2).transpose(1, 2), None


AttentionInterface.register(ISOLATING, isolating_attention)
