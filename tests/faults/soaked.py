"""What a soak looks at: memory of every process, queues and lag, bytes of Redis a user; and the figures of it."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.keys import Keys
from schemas.partition import partition_of
from tests.bench.figures import AT_MOST, Figure, figure
from tests.faults import tables
from tests.faults.growth import Trend, trend
from tests.faults.stage import ITEM_PARTITIONS, PARTITIONS, Stage
from tests.faults.verdict import Verdict
from tests.faults.watch import AWAY, Watch

MIB = 1 << 20
USER_BYTES, ACTIVE_EVENTS = 1_024, 32
"""What Redis may hold of a user who did this many things."""
WARM_SHARE, WARM_S = 1 / 3, 600
JUDGED_S = 600
LEAST = {"MiB": 1.0, "users": 20.0, "s": 1.0}
"""Rises that are too small to be told from none, by unit."""
NOT_SERVER = ("used_memory_startup", "mem_clients_normal", "mem_aof_buffer", "used_memory_scripts")
"""Parts of used_memory that are no keys."""


@dataclass(frozen=True)
class Held:
    """What Redis holds of users who did `events` things each, in bytes a user: rows and queue, and the push logs."""

    users: int
    events: float
    row_bytes: float
    push_bytes: float
    allocator: str

    @property
    def how(self) -> str:
        return f"{self.users:,} users after {self.events:.0f} events each: rows and queue; {self.allocator}"


@dataclass
class Sampler:
    """Samples by what was measured: (seconds, size) each; a look that a server did not answer is left out.

    `active` is what Redis held once everybody had done ACTIVE_EVENTS things on average, `full` what at the end.
    """

    samples: defaultdict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    active: Held | None = None
    full: Held | None = None
    stage: Stage | None = None
    watch: Watch | None = None
    _empty_bytes: int = 0

    @property
    def at(self) -> Stage:
        if self.stage is None:
            message = "there is no stage to look at yet"
            raise RuntimeError(message)
        return self.stage

    async def look(self) -> None:
        """One sample of everything."""
        now_s = time.monotonic()
        if self.active is None and self.at.truth.count >= ACTIVE_EVENTS * self.at.traffic.load.users:
            self.active = await self._held()
        for name, pid in self._pids():
            if (size_bytes := resident_bytes(pid)) is not None:
                self.samples[f"memory_{name}", "MiB"].append((now_s, size_bytes / MIB))
        redis = self.at.redis()
        try:
            async with asyncio.timeout(5):
                waiting = await tables.waiting(self.at, redis)
        except AWAY:
            return
        finally:
            await redis.aclose()
        self.samples["waiting_users", "users"].append((now_s, waiting))
        if self.watch is not None and self.watch.samples:
            sample = self.watch.samples[-1]
            self.samples["behind", "s"].append((now_s, max(sample.lags_s.values()) + now_s - sample.at_s))

    def _pids(self) -> Iterable[tuple[str, int]]:
        yield from ((process.name, process.pid) for process in self.at.processes if process.pid is not None)
        yield "broker", self.at.servers.brokers[0].child.pid
        yield "valkey", self.at.servers.valkeys[0].child.pid

    async def note_empty(self) -> None:
        """What Redis holds before anybody did anything."""
        redis = self.at.redis()
        self._empty_bytes = _keys_bytes(await redis.info("memory"))
        await redis.aclose()

    async def note_full(self) -> None:
        """What Redis holds for its users at the end."""
        self.full = await self._held()

    async def _held(self) -> Held:
        """What Redis holds for its users now, apart from everything of items."""
        redis, at = self.at.redis(), self.at
        memory = await redis.info("memory")
        tags = [at.keys.item_tag(partition) for partition in range(ITEM_PARTITIONS)]
        names = [make(tag) for tag in tags for make in (Keys.item_rows, Keys.catalogue, Keys.touched)]
        items = [await redis.memory_usage(name, samples=0) or 0 for name in names]
        users = (await tables.read(at, redis)).users
        pipe = redis.pipeline(transaction=False)
        for user in users:
            name = user.encode()
            pipe.memory_usage(Keys.pushes(at.keys.user_tag(partition_of(name, PARTITIONS)), name), samples=0)
        pushes = sum(size_bytes or 0 for size_bytes in await pipe.execute())
        await redis.aclose()
        rows, count = _keys_bytes(memory) - self._empty_bytes - sum(items) - pushes, max(1, len(users))
        allocator = str(memory["mem_allocator"])
        return Held(len(users), at.truth.count / count, rows / count, pushes / count, allocator)

    def written(self, path: Path) -> None:
        """Write every sample down, a line each: what, its unit, seconds since the first, size."""
        first_s = min((samples[0][0] for samples in self.samples.values()), default=0.0)
        lines = [
            f"{name},{unit},{at_s - first_s:.1f},{size:.3f}\n"
            for (name, unit), samples in self.samples.items()
            for at_s, size in samples
        ]
        path.write_text("".join(lines))


def _keys_bytes(memory: dict[str, Any]) -> int:
    return int(memory["used_memory"]) - sum(int(memory.get(name, 0)) for name in NOT_SERVER)


def resident_bytes(pid: int) -> int | None:
    """Memory of a process that no file stands behind, None where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    sizes = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    return 1024 * int(sizes["RssAnon"][0]) if "RssAnon" in sizes else None


def figures(sampler: Sampler, verdict: Verdict, length_s: float) -> list[Figure]:
    """What a soak found. Trends are judged after a warm-up, and only where enough is left to judge."""
    sent = f"{verdict.events:,} events, {verdict.candidates:,} candidates"
    found = [
        figure("soak_minutes", length_s / 60, "min", None, sent),
        figure("wrong_rows", verdict.wrong_rows, "", (AT_MOST, 0), "rows of users, items and catalogue at the end"),
        figure("lost", verdict.lost, "", (AT_MOST, 0), "events"),
        figure("doubled", verdict.doubled, "", (AT_MOST, 0), "events"),
        *_held_figures(sampler),
    ]  # fmt: skip
    for (name, unit), samples in sampler.samples.items():
        found += _grown(name, unit, samples, length_s)
    return found


def _held_figures(sampler: Sampler) -> Iterable[Figure]:
    active, full = sampler.active or sampler.full, sampler.full
    row_bytes, how = (None, "nobody did anything") if active is None else (active.row_bytes, active.how)
    yield figure("redis_bytes_per_active_user", row_bytes, "bytes", (AT_MOST, USER_BYTES), how)
    if full is not None:
        yield figure("redis_bytes_per_full_user", full.row_bytes, "bytes", None, full.how)
        about = "everybody is pushed for every event here; the last 32 are kept"
        yield figure("redis_push_log_bytes_per_user", full.push_bytes, "bytes", None, about)


def _grown(name: str, unit: str, samples: list[tuple[float, float]], length_s: float) -> list[Figure]:
    """Level and growth of one thing after the warm-up."""
    warm_s = samples[0][0] + min(WARM_S, WARM_SHARE * length_s)
    times_s, sizes = zip(*[sample for sample in samples if sample[0] >= warm_s] or samples[-1:], strict=True)
    if len(sizes) < 3:
        return [figure(f"{name}_growth", None, unit, None, "too few samples")]
    found: Trend = trend(times_s, sizes)
    how = f"at {found.level:,.1f}, in {(times_s[-1] - times_s[0]) / 60:.0f} min; noise {found.noise:.2f}"
    if why := _NOT_JUDGED.get(name) or (length_s < JUDGED_S and f"judged from {JUDGED_S // 60} min on"):
        return [figure(f"{name}_growth", found.growth, unit, None, f"{how}; {why}")]
    return [figure(f"{name}_growth", found.growth, unit, (AT_MOST, found.flat_below(LEAST[unit])), how)]


_NOT_JUDGED = {
    "memory_broker": "the Java heap is bounded by its -Xmx",
    "memory_valkey": "grows with rows and their history; judged by the user",
}
