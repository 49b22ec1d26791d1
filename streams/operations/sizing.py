"""Sizes an installation: bytes a user, users a GiB, events a second, workers; each figure says where it is from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from streams.service.spans import span
from streams.tables.memory_use import MemoryUse

GIB = 1 << 30
ASSUMED_BYTES_A_USER = 1_024
ASSUMED_CPU_US = 14.0
ASSUMED_REDIS_US = 4.0
BENCHMARKS = "the budget that `make bench` checks for full rows (docs/benchmarks.md)"
HEADROOM = 0.7
"""Share of what a worker or server can do that is planned with: rebalances and bursts need the rest."""

FEW_KEYS, OURS = 10_000, 0.9
"""With fewer keys, or many of others, what the server needs beside them cannot be told apart."""

FEW_EVENTS = 1_000
"""With fewer events between two looks a rate is chance."""


class Figure(NamedTuple):
    """One figure; `measured` is false for what is assumed or follows from an assumption."""

    name: str
    value: float
    unit: str
    measured: bool
    how: str


@dataclass(frozen=True)
class Memory:
    """Bytes a user by part, on average over all users, and bytes that do not grow with users."""

    users: int
    parts: Sequence[Figure]
    fullest_bytes: float
    fixed_bytes: int

    @property
    def bytes_a_user(self) -> float:
        """All parts together."""
        return sum(part.value for part in self.parts)

    @property
    def measured(self) -> bool:
        """Whether there was a user to measure."""
        return all(part.measured for part in self.parts)


class Moved(NamedTuple):
    """What happened between two looks: seconds, user events applied and arrived, and what waits at the end.

    `cpu_s`: CPU of the workers that were asked and `cpu_events` what they applied; `redis_cpu_s` of the servers.
    """

    seconds: float
    applied: int
    arrived: int
    behind: int
    workers: int
    partitions: int
    cpu_s: float = 0.0
    cpu_events: int = 0
    redis_cpu_s: float = 0.0


def memory(use: MemoryUse) -> Memory:
    """Bytes a user, measured where there are users."""
    row = use.part("rows")
    if row is None:
        assumed = Figure("user", ASSUMED_BYTES_A_USER, "bytes a user", False, f"no user is known yet: {BENCHMARKS}")
        return Memory(0, [assumed], ASSUMED_BYTES_A_USER, 0)
    users, how = row.members, f"MEMORY USAGE of {row.weighed:,} of {'' if row.exact else 'about '}{row.members:,} rows"
    value, key = row.payload_bytes / users, (row.n_bytes - row.payload_bytes) / users
    parts = [_a_user("row", value, how), _a_user("key and overhead", key, how)]
    fullest = value + key
    for name, words in (("push logs", "have one"), ("queue", "wait"), ("leases", "are held")):
        if part := use.part(name):
            how = f"{part.members:,} of {users:,} users {words}, {part.bytes_each:,.0f} bytes each"
            parts.append(_a_user(name, part.n_bytes / users, how))
            fullest += part.bytes_each if name != "leases" else 0.0
    if (beside := _beside_the_keys(use)) is not None:
        how = "used_memory less the keys, by key: hash table, buffers, what the allocator rounds up"
        parts.append(_a_user("the server's own", beside, how))
        fullest += beside
    fixed = sum(part.n_bytes for part in use.parts if part.name not in ("rows", "push logs", "queue", "leases"))
    return Memory(users, parts, fullest, fixed)


def _a_user(name: str, value: float, how: str) -> Figure:
    return Figure(name, value, "bytes a user", True, how)


def _beside_the_keys(use: MemoryUse) -> float | None:
    """Bytes a key that the server needs and MEMORY USAGE does not tell; None where others' keys blur it."""
    if use.all_keys < FEW_KEYS or use.keys < OURS * use.all_keys:
        return None
    return max(0, use.used_bytes - use.start_bytes - use.n_bytes) / use.keys


def memory_figures(found: Memory, users: int | None) -> list[Figure]:
    """Memory for so many users, or for those known now."""
    each = found.bytes_a_user
    figures = [
        *found.parts,
        Figure("together", each, "bytes a user", found.measured, "the sum"),
        Figure(
            "users", GIB / each, "a GiB", found.measured, "of memory in use; leave a quarter free for forks and bursts"
        ),
        Figure("items, catalogue, fences", found.fixed_bytes, "bytes", found.measured, "they do not grow with users"),
    ]
    count = users or found.users
    if count:
        least, most = count * each + found.fixed_bytes, count * max(each, found.fullest_bytes) + found.fixed_bytes
        figures.append(Figure(f"{count:,} users", least / GIB, "GiB", found.measured, "as full as now"))
        figures.append(
            Figure(f"{count:,} users", most / GIB, "GiB", found.measured, "if every one had a push log and waited")
        )
    return figures


def speed(moved: Moved) -> Figure:
    """Events a second that one worker process can apply."""
    if moved.cpu_events >= FEW_EVENTS and moved.cpu_s > 0:
        cpu_us = 1e6 * moved.cpu_s / moved.cpu_events
        load = moved.applied / max(moved.seconds, 1e-9)
        how = (
            f"{cpu_us:.1f} µs of CPU an event over {moved.cpu_events:,} events at {load:,.0f} a second, by their "
            "/metrics; one core a process, and an event costs less when more of them come"
        )
        return Figure("a worker", 1e6 / cpu_us, "events/s", True, how)
    rate = moved.applied / max(moved.seconds, 1e-9)
    if moved.applied >= FEW_EVENTS and moved.workers and moved.behind > rate:
        how = f"{moved.applied:,} events in {moved.seconds:.0f} s, more still waiting; workers: {moved.workers}"
        return Figure("a worker", rate / moved.workers, "events/s", True, how)
    how = f"{ASSUMED_CPU_US:.0f} µs of CPU an event, {BENCHMARKS}; nothing was behind that could be timed"
    return Figure("a worker", 1e6 / ASSUMED_CPU_US, "events/s", False, how)


def redis_speed(moved: Moved) -> Figure:
    """Events a second that Redis can take, on the one core that a server uses."""
    if moved.applied >= FEW_EVENTS and moved.redis_cpu_s > 0:
        redis_us = 1e6 * moved.redis_cpu_s / moved.applied
        how = f"{redis_us:.1f} µs of CPU an event over {moved.applied:,} events, everything it did meanwhile included"
        return Figure("Redis", 1e6 / redis_us, "events/s a server", True, how)
    how = f"{ASSUMED_REDIS_US:.0f} µs of CPU an event, {BENCHMARKS}"
    return Figure("Redis", 1e6 / ASSUMED_REDIS_US, "events/s a server", False, how)


def speed_figures(moved: Moved, events_per_s: float | None) -> list[Figure]:
    """What arrives, what is applied, how long the lag takes, and how many workers a load wants."""
    worker, redis = speed(moved), redis_speed(moved)
    seconds = max(moved.seconds, 1e-9)
    looks = f"between two looks at the topics, {moved.seconds:.0f} s apart"
    figures = []
    if moved.seconds:
        figures += [
            Figure("arriving", moved.arrived / seconds, "events/s", True, looks),
            Figure("applied", moved.applied / seconds, "events/s", True, f"{looks}; workers: {moved.workers}"),
        ]
    figures += [worker, redis, _clearing(moved, worker)]
    if events_per_s is not None:
        figures += _wanted(moved, events_per_s, worker, redis)
    return figures


def _clearing(moved: Moved, worker: Figure) -> Figure:
    """Time to clear what is behind, at the rate measured if it shrinks, else at the speed of the workers."""
    name, unit = "clearing the lag", "s"
    if not moved.behind:
        return Figure(name, 0.0, unit, True, "nothing is behind")
    arriving = moved.arrived / moved.seconds if moved.seconds else 0.0
    if moved.applied >= FEW_EVENTS and moved.behind <= arriving:
        return Figure(name, 0.0, unit, True, f"{moved.behind:,} on their way, less than arrives in a second")
    gained = (moved.applied - moved.arrived) / moved.seconds if moved.seconds else 0.0
    if moved.applied >= FEW_EVENTS and gained > 0:
        left_s = moved.behind / gained
        return Figure(
            name, left_s, unit, True, f"{moved.behind:,} behind, {gained:,.0f} fewer a second: {span(left_s * 1e3)}"
        )
    workers = max(moved.workers, 1)
    net = workers * worker.value - arriving
    if net <= 0:
        return Figure(name, math.inf, unit, worker.measured, f"never: more arrives than {workers} workers can apply")
    left_s = moved.behind / net
    how = f"{moved.behind:,} behind, {workers} worker{'s' if workers != 1 else ''} at full speed: {span(left_s * 1e3)}"
    return Figure(name, left_s, unit, False, how if moved.workers else f"{how}; none runs now")


def _wanted(moved: Moved, events_per_s: float, worker: Figure, redis: Figure) -> list[Figure]:
    """Workers and Redis servers for a load, with headroom."""
    workers = max(1, math.ceil(events_per_s / (HEADROOM * worker.value)))
    servers = max(1, math.ceil(events_per_s / (HEADROOM * redis.value)))
    how = f"for {events_per_s:,.0f} events/s at {HEADROOM:.0%} of what one can do"
    told = how
    if moved.partitions and workers > moved.partitions:
        told = f"{how}; the topics have {moved.partitions} partitions, so no more than that can work: rebuild with more"
    where = how if servers == 1 else f"{how}: a Cluster"
    return [
        Figure("workers", workers, "processes", worker.measured, told),
        Figure("Redis servers", servers, "primaries", redis.measured, where),
    ]
