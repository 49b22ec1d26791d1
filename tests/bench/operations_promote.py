"""How long a promotion takes, and for how long nothing is applied meanwhile, beside an ordinary rebalance."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from schemas.keys import Keys
from tests.bench.figures import AT_MOST, Figure, figure
from tests.bench.lab import Lab
from tests.installation import events
from tests.promoting import Promoted
from tests.worker_process import until

PER_S = 500
LOOK_S = 0.02


def promote_figures(lab: Lab) -> list[Figure]:
    """Seconds of the command, and the longest time in which nothing was applied, there and in a rebalance."""
    lab.say("a promotion while events flow")
    promote_s, rebalance_s, pause_s = asyncio.run(_measure(lab))
    how = f"two workers, a model worker, {PER_S} events/s, a run that was followed until then"
    return [
        figure("promote: from --execute to in force", promote_s, "s", (AT_MOST, 5.0), how),
        figure("promote: longest pause of live work over that of a rebalance", pause_s / rebalance_s, "", None, how),
        figure("promote: longest pause of live work", pause_s, "s", None, how),
    ]


async def _measure(lab: Lab) -> tuple[float, float, float]:
    (folder := Path(lab.folder) / "promote").mkdir()
    shop = Promoted(lab.broker.address, lab.valkey.url, "promote.", "promote", folder)
    try:
        assert (await shop.set_up(partitions=8, item_partitions=8))[0] == 0
        await shop.send(events(shop.topics, 2_000))
        workers = [shop.worker(), shop.worker()]
        shop.model()
        run = await shop.build_run()
        follower = shop.worker("--into", shop.run_name)
        await asyncio.gather(*[worker.ready() for worker in (*workers, follower)])
        await shop.applied()
        await run.applied()
        async with shop.flowing(PER_S):

            async def rebalance() -> None:
                third = shop.worker()
                await third.ready()
                await asyncio.to_thread(third.term)

            _, rebalance_s = await _paused(shop, rebalance)
            await asyncio.to_thread(follower.term)  # while one follows, the run does not pause at all
            took: dict[str, Any] = {}

            async def promote() -> None:
                took.update(await shop.promote(shop.run_name, "--execute"))
                for worker in workers:
                    await until(lambda: shop.run_name in worker.get("/ready")[1], 30, str)  # noqa: B023

            _, pause_s = await _paused(shop, promote)
        return float(took["took_s"]), rebalance_s, pause_s
    finally:
        shop.close()


async def _paused(shop: Promoted, do: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """Seconds that something took, and the longest time in which neither namespace applied anything."""
    doing = asyncio.ensure_future(do())
    started_s = moved_s = time.monotonic()
    longest_s, most = 0.0, -1
    async with shop.redis() as redis:
        while not doing.done():
            applied = max([await _applied(redis, Keys(name), shop) for name in (shop.name, shop.run_name)])
            now_s = time.monotonic()
            if applied > most:
                longest_s, moved_s, most = max(longest_s, now_s - moved_s), now_s, applied
            await asyncio.sleep(LOOK_S)
    await doing
    return time.monotonic() - started_s, longest_s


async def _applied(redis: Any, keys: Keys, shop: Promoted) -> int:
    pipe = redis.pipeline(transaction=False)
    for partition in range(shop.partitions):
        pipe.hgetall(Keys.meta(keys.user_tag(partition)))
    return sum(int(at) for meta in await pipe.execute() for name, at in meta.items() if name.startswith(b"o:"))
