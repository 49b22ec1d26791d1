"""How many cores there are to compute with; asked before torch is loaded, too."""

from __future__ import annotations

import os


def cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def serving_threads() -> int:
    """Half the cores, at most four: servers, stream worker and ranker share the machine, and torch's threads spin."""
    return max(1, min(4, cores() // 2))


def idle_threads() -> int:
    """As many threads as cores are idle now, at most eight: more would wait for each other in busy loops."""
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, min(8, round(cores() - busy)))
