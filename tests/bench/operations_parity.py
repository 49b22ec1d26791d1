"""How long the parity of many users takes, over synthetic rows of two namespaces in one server."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import numpy as np

from schemas.keys import Keys
from streams.features.declaration import DEFAULT
from streams.features.rows import Layout
from streams.operations.parity import Parity, Sample, kinds
from tests.bench.figures import AT_MOST, Figure, figure
from tests.bench.lab import Lab
from tests.contract.backends import client_of

MILLION, PARTITIONS, DIFFERENT = 1_000_000, 8, 1_000
USERS = int(os.environ.get("BENCH_USERS", MILLION))
"""How many are compared, DIFFERENT at the least: BENCH_USERS=10000 for a look whether it runs."""
PAGE = 10_000


def parity_figures(lab: Lab, users: int = USERS) -> list[Figure]:
    """Seconds and CPU of the comparison of so many users, of whom a thousand differ."""
    lab.say(f"parity of {users:,} users")
    took_s, cpu_s, found = asyncio.run(_compare(lab.valkey.url, users))
    if found != DIFFERENT:
        message = f"parity found {found} users that differ, {DIFFERENT} do"
        raise AssertionError(message)
    how = f"{users:,} users in two namespaces of one Valkey, rows of 20 events, {DIFFERENT:,} of them different"
    budget = 60.0 * users / MILLION
    return [
        figure(f"parity of {users / MILLION:g} M users", took_s, "s", (AT_MOST, budget), how),
        figure("parity: CPU of the command a user", cpu_s / users * 1e6, "µs", None, how),
    ]


async def _compare(url: str, users: int) -> tuple[float, float, int]:
    client = client_of(url)
    names = ("parity-a", "parity-b")
    try:
        for name in names:
            await _fill(client, Keys(name), users)
        await _change(client, Keys(names[1]))
        parity = Parity(client, *names, {DEFAULT.schema: DEFAULT}, Sample(), 0.0)
        started_s, cpu_s = time.monotonic(), time.process_time()
        tally = await parity.compare(kinds(client, 1)[0], NoBar())  # type: ignore[arg-type]
        return time.monotonic() - started_s, time.process_time() - cpu_s, tally.different
    finally:
        await client.flushall()
        await client.aclose()


def _rows(layout: Layout, n: int) -> Any:
    rows, random = layout.empty(n), np.random.default_rng(1)
    rows["schema"], rows["last_ms"], rows["history_n"] = layout.schema, 1_700_000_000_000, 20
    rows["totals"][:, :3] = random.integers(1, 50, (n, 3))
    rows["windows"][:, :4, 3:, :6] = random.integers(0, 9, (n, 4, 2, 6))
    rows["history"]["key"][:, :20] = np.sort(random.integers(1 << 56, 1 << 60, (n, 20)), 1)
    return rows


async def _fill(client: Any, keys: Keys, users: int) -> None:
    layout = Layout(DEFAULT)
    blobs = layout.pack(_rows(layout, 1_000))
    for start in range(0, users, PAGE):
        some = range(start, min(start + PAGE, users))
        await client.mset({_key(keys, i): blobs[i % len(blobs)] for i in some})


async def _change(client: Any, keys: Keys) -> None:
    layout = Layout(DEFAULT)
    rows = _rows(layout, DIFFERENT)
    rows["totals"][:, 0] += 1
    await client.mset({_key(keys, i): blob for i, blob in enumerate(layout.pack(rows))})


def _key(keys: Keys, i: int) -> bytes:
    return Keys.row(keys.user_tag(i % PARTITIONS), b"user-%d" % i)


class NoBar:
    """Nobody watches."""

    def at(self, done: float, total: float | None = None) -> None:
        """Nothing is drawn."""
