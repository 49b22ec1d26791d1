"""What a process has cost: CPU of all its threads and children, peak memory, and when it first spoke to a port."""

import time
from collections.abc import Iterator
from pathlib import Path

SPOKEN = frozenset({"01", "02", "08"})  # TCP states: established, SYN sent, closed by the other side


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


def has_spoken_to(pid: int, port: int) -> bool:
    """Whether the process holds a connection to a local TCP port."""
    return bool(_sockets(pid) & _connections_to(port))


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _family(int(child))
    except FileNotFoundError:  # the thread ended while we looked
        return


def _sockets(pid: int) -> frozenset[str]:
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:  # closed while we looked
            continue
        if target.startswith("socket:["):
            found.add(target[len("socket:[") : -1])
    return frozenset(found)


def _connections_to(port: int) -> frozenset[str]:
    """Inodes of the sockets whose other end is the port."""
    wanted = f":{port:04X}"
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:  # no IPv6 here
            continue
        for line in lines:
            _, _, remote, state, *rest = line.split()
            if remote.endswith(wanted) and state in SPOKEN:
                inodes.add(rest[5])
    return frozenset(inodes)
