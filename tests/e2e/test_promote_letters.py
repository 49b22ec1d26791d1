"""Dead letters where a run and the live namespace stand at different offsets: none is lost, none is sent by both."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import orjson
import pytest

from tests.installation import Sent, events
from tests.promoting import BROKEN, Place, Promoted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def shop(promoted: Promoted) -> Promoted:
    return promoted


async def publish(shop: Promoted) -> Counter[Place]:
    """Events and items, some of them none; where those lie that are none."""
    items = [Sent(shop.topics.items, b"i%d" % i, orjson.dumps({"item_id": f"i{i}", "title": "one"})) for i in range(20)]
    broken = [Sent(topic, b"k%d" % i, BROKEN) for topic in (shop.topics.clicks, shop.topics.items) for i in range(20)]
    await shop.send([*events(shop.topics, 300), *items, *broken])
    found = [*await shop.read(shop.topics.clicks), *await shop.read(shop.topics.items)]
    return Counter((record.topic, record.partition, record.offset) for record in found if record.value == BROKEN)


async def applied(shop: Promoted, topics: Sequence[str]) -> None:
    """Wait until the live namespace has applied these topics."""
    ends, deadline_s = await shop.ends(topics), time.monotonic() + 30
    while not ends.items() <= {place: at + 1 for place, at in (await shop.fences()).items()}.items():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("running", ["users", "nobody"])
async def test_a_promotion_sends_what_a_live_namespace_that_stands_still_has_not(shop: Promoted, running: str) -> None:
    broken = await publish(shop)
    assert len(broken) == 40
    if running == "users":  # of users everything is applied, of items nothing
        worker = shop.worker("--only", "users")
        await worker.ready()
        await applied(shop, shop.topics.user_inputs)
        assert worker.term() == 0
    replayed = await asyncio.to_thread(shop.run, "replay", "--into", shop.run_name, "--execute", timeout_s=120)
    assert replayed.returncode == 0, replayed.stderr
    assert {topic for topic, _, _ in await shop.buried()} == ({shop.topics.clicks} if running == "users" else set())

    await shop.promote(shop.run_name, "--execute")

    assert await shop.buried() == broken
    worker = shop.worker()
    await worker.ready()
    shop.look_at(shop.run_name)
    await shop.applied()
    assert await shop.wrong_users() == {}
    assert await shop.buried() == broken
    assert worker.metric("kairos_dead_letters_total") + worker.metric("kairos_item_dead_letters_total") == 0


async def test_a_follower_neither_sends_the_letters_of_the_live_namespace_nor_counts_them(shop: Promoted) -> None:
    run = await shop.build_run()
    live, follower = shop.worker(), shop.worker("--into", shop.run_name)
    await asyncio.gather(live.ready(), follower.ready())
    broken = await publish(shop)
    await shop.applied()
    await run.applied()
    assert await shop.buried() == broken
    counts = [
        (w.metric("kairos_dead_letters_total"), w.metric("kairos_item_dead_letters_total")) for w in (live, follower)
    ]
    assert counts == [(20, 20), (0, 0)]
