"""What a promotion takes for standing still: a live namespace that goes on below the run sends its letters itself."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from schemas.keys import Keys
from schemas.topics import Topics
from streams.operations.promote import MOMENT_S, Promotion
from streams.operations.promote_plan import Plan
from streams.service import settings
from streams.service.namespaces import InForce
from streams.settings import FoldSettings
from tests.contract.backends import client_of

RECORDS, STEPS = 100, 5
CLICKS, ORDERS = Topics().clicks, Topics().orders


class Pair:
    """A live namespace below a run that has read so many clicks and orders."""

    def __init__(self, redis: Any, redis_url: str, namespace: str) -> None:
        self.redis, self.live, self.run = redis, namespace, f"{namespace}-run"
        env = {"KAIROS_REDIS": redis_url, "KAIROS_NAMESPACE": namespace}
        plan = Plan(InForce(namespace, namespace), self.run, 1)
        self.promotion = Promotion(redis, settings.read(FoldSettings, env), plan, lambda *_: None)

    async def applies(self, namespace: str, **fences: int) -> None:
        topics = {getattr(Topics(), word): at for word, at in fences.items()}
        told = {f"i:{topic}": b"id" for topic in topics} | {f"o:{topic}": str(at) for topic, at in topics.items()}
        await self.redis.hset(Keys.meta(Keys(namespace).user_tag(0)), mapping={"n": "1", **told})

    async def lacking(self) -> tuple[set[str], float]:
        began_s = time.monotonic()
        return await self.promotion._lacking(self.live, self.run, MOMENT_S), time.monotonic() - began_s


async def test_a_live_namespace_that_is_slow_is_waited_for(redis_url: str, namespace: str) -> None:
    async with client_of(redis_url) as redis:
        pair = Pair(redis, redis_url, namespace)
        await pair.applies(pair.run, clicks=RECORDS)
        await pair.applies(pair.live, clicks=0)
        looking = asyncio.create_task(pair.lacking())
        for step in range(1, STEPS + 1):
            await asyncio.sleep(MOMENT_S / 2)
            await pair.applies(pair.live, clicks=step * RECORDS // STEPS)
        lacking, took_s = await looking
    assert lacking == set()
    assert took_s > MOMENT_S


async def test_one_that_stands_still_is_not_waited_for_longer(redis_url: str, namespace: str) -> None:
    async with client_of(redis_url) as redis:
        pair = Pair(redis, redis_url, namespace)
        await pair.applies(pair.run, clicks=RECORDS, orders=RECORDS)
        await pair.applies(pair.live, clicks=RECORDS, orders=RECORDS - 1)
        lacking, took_s = await pair.lacking()
    assert lacking == {ORDERS}
    assert took_s < 3 * MOMENT_S
