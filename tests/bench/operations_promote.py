"""How long a promotion takes, and for how long nothing is applied meanwhile, beside an ordinary rebalance."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from schemas.keys import Keys
from tests.bench.figures import AT_MOST, Figure, figure
from tests.bench.lab import Lab
from tests.installation import events
from tests.promoting import Promoted
from tests.worker_process import WorkerProcess, until

PER_S = 500
LOOK_S = 0.02
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
"""Promotions, there and back: BENCH_ROUNDS=1 for a look whether it runs."""
AS_A_REBALANCE = 1.5
"""A promotion may pause live work for as long as a rebalance; half as long again is the noise of so few of both."""


def promote_figures(lab: Lab) -> list[Figure]:
    """Seconds of the command, and the longest time in which nothing was applied, there and in a rebalance."""
    lab.say(f"{ROUNDS} rebalances and as many promotions, there and back, while events flow")
    took_s, rebalance_s, pause_s = [median(values) for values in asyncio.run(_measure(lab))]
    how = f"two workers, a model worker, {PER_S} events/s; median of {ROUNDS}, each to a run that was followed"
    pauses = f"medians of {ROUNDS}: {pause_s:.2f} s over {rebalance_s:.2f} s, when a third worker joins and leaves"
    over = pause_s / rebalance_s
    return [
        figure("promote: from --execute to in force", took_s, "s", (AT_MOST, 5.0), how),
        figure(
            "promote: longest pause of live work over that of a rebalance", over, "", (AT_MOST, AS_A_REBALANCE), pauses
        ),
        figure("promote: longest pause", pause_s, "s", None, how),
    ]


async def _measure(lab: Lab) -> tuple[list[float], list[float], list[float]]:
    """Of each round the seconds of a promotion, of the longest pause in a rebalance, and of that in the promotion."""
    (folder := Path(lab.folder) / "promote").mkdir()
    shop = Promoted(lab.broker.address, lab.valkey.url, "promote.", "promote", folder)
    try:
        assert (await shop.set_up(partitions=8, item_partitions=8))[0] == 0
        await shop.send(events(shop.topics, 2_000))
        workers = [shop.worker(), shop.worker()]
        shop.model()
        await shop.build_run()
        await asyncio.gather(*[worker.ready() for worker in workers])
        took_s, rebalances_s, pauses_s = list[float](), list[float](), list[float]()
        async with shop.flowing(PER_S):
            live, other = shop.name, shop.run_name
            for _ in range(ROUNDS):
                follower = await _follower(shop, live, other)
                rebalances_s.append(await _paused(shop, (live,), _rebalanced(shop)))
                await asyncio.to_thread(follower.term)  # while one follows, the run does not pause at all
                pauses_s.append(await _paused(shop, (live, other), _promoted(shop, other, workers, took_s)))
                live, other = other, live
        return took_s, rebalances_s, pauses_s
    finally:
        shop.close()


async def _follower(shop: Promoted, live: str, other: str) -> WorkerProcess:
    """A worker that has brought the other namespace to within a second of the live one."""
    made = shop.worker("--into", other)
    await made.ready()
    async with shop.redis() as redis:
        while True:
            behind = await _applied(redis, Keys(live), shop) - await _applied(redis, Keys(other), shop)
            if behind <= PER_S:
                return made
            await asyncio.sleep(0.1)


async def _rebalanced(shop: Promoted) -> None:
    """One worker comes, and goes."""
    third = shop.worker()
    await third.ready()
    await asyncio.to_thread(third.term)


async def _promoted(shop: Promoted, target: str, workers: list[WorkerProcess], took_s: list[float]) -> None:
    took_s.append(float((await shop.promote(target, "--execute"))["took_s"]))
    for worker in workers:
        await until(lambda worker=worker: _namespace(worker) == target, 30, str)


def _namespace(worker: WorkerProcess) -> str:
    return str(orjson.loads(worker.get("/ready")[1])["namespace"])


async def _paused(shop: Promoted, names: Sequence[str], doing: Coroutine[Any, Any, None]) -> float:
    """The longest time, in seconds, in which none of these namespaces came further while something was done."""
    done = asyncio.create_task(doing)
    moved_s, longest_s, most = time.monotonic(), 0.0, -1
    async with shop.redis() as redis:
        while not done.done():
            applied = max([await _applied(redis, Keys(name), shop) for name in names])
            now_s = time.monotonic()
            if applied > most:
                longest_s, moved_s, most = max(longest_s, now_s - moved_s), now_s, applied
            await asyncio.sleep(LOOK_S)
    await done
    return max(longest_s, time.monotonic() - moved_s)


async def _applied(redis: Any, keys: Keys, shop: Promoted) -> int:
    pipe = redis.pipeline(transaction=False)
    for partition in range(shop.partitions):
        pipe.hgetall(Keys.meta(keys.user_tag(partition)))
    return sum(int(at) for meta in await pipe.execute() for name, at in meta.items() if name.startswith(b"o:"))
