"""Where the net runs and in which numbers: CUDA if there is one, bfloat16 only where it measures faster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch

GAIN = 1.15
"""bfloat16 must be this much faster than float32 to be worth its rounding."""


def device_of(name: str) -> torch.device:
    """The device called "auto", "cpu" or "cuda". Raises ValueError where there is no CUDA device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        message = "KAIROS_DEVICE is cuda, but torch finds no CUDA device: set it to auto or cpu"
        raise ValueError(message)
    return torch.device(name)


def use_threads(threads: int) -> None:
    """Let torch compute with so many threads; numbers too small to matter count as zero (they are slow)."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


@dataclass(frozen=True)
class Precision:
    """Numbers of the matrix products: float32, or bfloat16."""

    device: torch.device
    reduced: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and tokens."""
        return torch.bfloat16 if self.reduced else torch.float32

    @property
    def name(self) -> str:
        """The dtype's name."""
        return "bfloat16" if self.reduced else "float32"


def fastest(device: torch.device, work: Callable[[Precision], object], rounds: int = 3) -> Precision:
    """The precision in which `work` runs faster, measured here and now."""
    full, reduced = Precision(device), Precision(device, reduced=True)
    work(full)
    try:
        work(reduced)
    except RuntimeError:
        return full
    # In turns, so that a busy moment of the machine does not decide.
    seconds = [[_timed(device, work, precision) for precision in (full, reduced)] for _ in range(rounds)]
    return reduced if min(pair[1] for pair in seconds) * GAIN < min(pair[0] for pair in seconds) else full


def _timed(device: torch.device, work: Callable[[Precision], object], precision: Precision) -> float:
    started = perf_counter()
    work(precision)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter() - started
