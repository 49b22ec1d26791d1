"""Find the few events of a chunk that make a whole step fail, by halving."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]

MOST = 8
"""Events of one chunk that may be poison; when more than these and all of them fail, the step is broken, not they."""


async def culprits(n: int, works: Callable[[Positions], Awaitable[bool]]) -> list[int]:
    """Positions of the events, of `n`, that fail even alone; none when no single one does or when all of many do."""
    suspects: list[Positions] = [np.arange(n)] if n else []
    found: list[int] = []
    while suspects:
        group = suspects.pop()
        if await works(group):
            continue
        if len(group) == 1:
            found.append(int(group[0]))
        else:
            half = len(group) // 2
            suspects += [group[:half], group[half:]]
    return [] if len(found) == n > MOST else sorted(found)
