"""The candidate-isolating attention mask: a candidate sees the user's prefix and itself, nothing sees a candidate."""

import torch
from torch import Tensor


def isolating_mask(prefix: Tensor, candidates: int, dtype: torch.dtype) -> Tensor:
    """Additive mask [B, 1, P + C, P + C] for prefix bool[B, P] (False = padding) and `candidates` = C.

    So a score never depends on which other candidates are in the list, nor on their order.
    """
    users, width = prefix.shape
    shut = torch.finfo(dtype).min
    mask = torch.full((users, 1, width + candidates, width + candidates), shut, dtype=dtype, device=prefix.device)
    mask[..., :width].masked_fill_(prefix[:, None, None, :], 0.0)
    themselves = torch.arange(width, width + candidates, device=prefix.device)
    mask[..., themselves, themselves] = 0.0
    return mask
