"""What a process has cost: CPU of all its threads and children, and peak memory."""

import time
from collections.abc import Iterator
from pathlib import Path


def cpu_s(pid: int) -> float:
    """User and system seconds of a live process and its live descendants, dead threads included."""
    # CPUCLOCK_SCHED of another process (clock_getcpuclockid): nanoseconds, where /proc/PID/stat has hundredths.
    return sum(time.clock_gettime((~each << 3) | 2) for each in _family(pid))


def peak_mb(pid: int) -> float:
    """Peak resident memory in MB, descendants included (VmHWM: ru_maxrss would inherit the parent's)."""
    total_kb = 0
    for each in _family(pid):
        for line in Path(f"/proc/{each}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                total_kb += int(line.split()[1])
    return total_kb / 1024


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _family(int(child))
    except FileNotFoundError:  # the thread ended while we looked
        return
