"""`kairos promote` over worker processes while events flow: no gap, no double, every user answered, no push twice."""

from __future__ import annotations

import asyncio
from collections import Counter

import orjson
import pytest

from streams.operations.catching_up import SOON
from streams.service import namespaces, roll
from streams.service.namespaces import InForce
from tests.installation import Sent, events
from tests.promoting import BROKEN, Promoted, killed
from tests.worker_process import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def shop(promoted: Promoted) -> Promoted:
    return promoted


async def in_force(shop: Promoted) -> InForce:
    async with shop.redis() as redis:
        return await namespaces.in_force(redis, shop.name)


async def rows_are_right(shop: Promoted, namespace: str) -> None:
    """The rows of a namespace are what an independent fold of all events says."""
    shop.look_at(namespace)
    await shop.applied()
    assert await shop.wrong_users() == {}
    assert await shop.wrong_items() == {}


async def letters_are_right(shop: Promoted, *, again: int) -> None:
    """Every record that is none is in the dead letters, at most so many more than once."""
    letters = await shop.buried()
    assert set(letters) == await shop.broken()
    assert letters.total() <= len(letters) + again


async def nobody_was_pushed_twice(shop: Promoted) -> None:
    pushed = await shop.pushed()
    assert max(Counter(candidate.dedup_key for candidate in pushed).values()) == 1
    users = Counter(candidate.user.id for candidate in pushed)
    assert max(users.values()) == 1, "the gap of four hours holds over all namespaces that were in force"


async def test_readers_and_writers_move_there_and_back_while_events_flow(shop: Promoted) -> None:
    await shop.send(events(shop.topics, 7_000))  # more than workers are left to catch up with
    await shop.send([Sent(shop.topics.clicks, b"u%d" % i, BROKEN) for i in range(40)])
    workers = [shop.worker(), shop.worker()]
    shop.model()
    await asyncio.gather(*[worker.ready() for worker in workers])
    await shop.build_run()
    async with shop.flowing():
        planned = await shop.promote(shop.run_name)
        assert planned["executed"] is False
        assert planned["plan"]["lag_records"] > SOON
        assert (await in_force(shop)).live == shop.name
        done = await shop.promote(shop.run_name, "--execute")
        assert (done["in_force"]["live"], done["in_force"]["serving"]) == (shop.run_name, shop.run_name)
        for worker in workers:
            await worker.ready()
            assert orjson.loads(worker.get("/ready")[1])["namespace"] == shop.run_name
        await asyncio.sleep(1)
    await rows_are_right(shop, shop.run_name)
    await shop.answered()
    await letters_are_right(shop, again=0)  # neither who caught up nor who moved has sent one again
    follower = shop.worker("--into", shop.name)
    await follower.ready()
    async with shop.flowing(bad=True):
        back = await shop.promote("--undo", "--execute")
        assert back["in_force"]["serving"] == shop.name
        assert back["in_force"]["previous"] == shop.run_name
        await asyncio.sleep(1)
    await rows_are_right(shop, shop.name)
    await shop.answered()
    await nobody_was_pushed_twice(shop)
    asked = await asyncio.to_thread(shop.run, "inspect", str(shop.events[0]["user_id"]), "--json")
    assert orjson.loads(asked.stdout)["applied"][shop.topics.clicks] >= 0
    await letters_are_right(shop, again=5)  # a rebalance in the middle of a chunk may send some again
    assert [worker.term() for worker in (*workers, follower)] == [0, 0, 0]
    assert not any("Traceback" in worker.text for worker in workers)


@pytest.mark.long
async def test_a_promotion_killed_between_any_two_steps_goes_on_from_there(shop: Promoted) -> None:
    await shop.send(events(shop.topics, 1_000))
    worker = shop.worker()
    shop.model()
    await worker.ready()
    await shop.build_run()
    target, steps = shop.run_name, ["catching up", "beginning", "moving", "queues", "sweeping"]
    async with shop.flowing():
        for step in steps:
            assert await killed(shop.env, target, step) == -9
            assert (await in_force(shop)).step == ("" if step in steps[:2] else step)
            done = await shop.promote(target, "--execute")
            assert (done["in_force"]["live"], done["in_force"]["serving"], done["in_force"]["step"]) == (
                target,
                target,
                "",
            )
            target = shop.name if target == shop.run_name else shop.run_name
    live = (await in_force(shop)).live
    await rows_are_right(shop, live)
    await shop.answered()
    await nobody_was_pushed_twice(shop)
    assert worker.term() == 0


@pytest.mark.long
async def test_one_that_stands_in_the_middle_can_go_back(shop: Promoted) -> None:
    await shop.send(events(shop.topics, 1_000))
    worker = shop.worker()
    shop.model()
    await worker.ready()
    await shop.build_run()
    async with shop.flowing():
        assert await killed(shop.env, shop.run_name, "queues") == -9
        other = await asyncio.to_thread(shop.run, "promote", "third", "--execute")
        assert other.returncode == 78
        assert f"The promotion of {shop.run_name} is under way (queues)" in other.stderr
        await until(lambda: shop.run_name in worker.get("/ready")[1], 20, lambda: worker.text, worker)
        back = await shop.promote("--undo", "--execute")
        assert back["in_force"] | {"previous": "", "logs": []} == back["in_force"]
        assert (back["in_force"]["live"], back["in_force"]["serving"]) == (shop.name, shop.name)
    await rows_are_right(shop, shop.name)
    await shop.answered()
    assert max(Counter(candidate.dedup_key for candidate in await shop.pushed()).values()) == 1


async def test_what_must_not_come_into_force_is_refused_with_the_way_out(shop: Promoted) -> None:
    async def refused(*options: str, **env: str) -> str:
        before, shop.env = shop.env, {**shop.env, **env}
        done = await asyncio.to_thread(shop.run, "promote", *options, "--execute", timeout_s=180)
        shop.env = before
        assert done.returncode == 78, done.stderr + done.stdout
        return done.stderr

    await shop.send(events(shop.topics, 300))
    worker = shop.worker()
    await worker.ready()
    await shop.applied()
    assert "There is no namespace nowhere in this Redis" in (said := await refused("nowhere"))
    assert "`kairos replay --mode rebuild --into nowhere --execute`" in said
    assert "there is nothing to go back to" in await refused("--undo")
    assert (await asyncio.to_thread(shop.run, "promote", shop.name)).stdout == f"{shop.name} is in force already.\n"
    assert (await asyncio.to_thread(shop.run, "promote")).returncode == 2
    run = await shop.build_run()
    staying = shop.worker("--into", shop.name)
    await staying.ready()
    assert f"Workers that would stay in {shop.name} run: kairos worker at " in await refused(shop.run_name)
    staying.term()
    async with shop.redis() as redis:
        shadow = roll.Roll(redis, shop.run_name, roll.myself("model", 1))
        calling = asyncio.create_task(shadow.until(lambda _force: False))
        assert f"{shop.run_name} is scored in shadow: kairos model at " in await refused(shop.run_name)
        calling.cancel()
        await shadow.leave()
        topic_id = await redis.hget(run.keys.meta(run.keys.user_tag(0)), f"i:{shop.topics.clicks}")
        await redis.hset(run.keys.meta(run.keys.user_tag(0)), f"i:{shop.topics.clicks}", "other")
        assert f"{shop.topics.clicks}:0 is another topic than the table was built from" in await refused(shop.run_name)
        await redis.hset(run.keys.meta(run.keys.user_tag(0)), f"i:{shop.topics.clicks}", topic_id)
        await redis.hset(run.keys.meta(run.keys.user_tag(0)), "n", "8")
        assert "has 4 partitions, the table was built over 8" in await refused(shop.run_name)
    assert (await in_force(shop)).live == shop.name


@pytest.mark.long
async def test_a_run_of_another_schema_waits_for_workers_that_read_it(shop: Promoted) -> None:
    features = shop.folder / "features.toml"
    features.write_text("[windows]\n2h = '2h'\n")
    new = {"KAIROS_FEATURES": str(features)}
    await shop.send(events(shop.topics, 1_000))
    old = shop.worker()
    await old.ready()
    await shop.applied()
    run = await shop.build_run()
    follower = shop.worker("--into", shop.run_name, **new)
    await follower.ready()
    await run.applied()
    async with shop.redis() as redis:
        schema = await namespaces.schema_of(redis, run.keys)
        assert schema != await namespaces.schema_of(redis, shop.keys)
        await namespaces.register(redis, shop.name, shop.run_name, {"mode": "rebuild", "schema": schema})
    waiting = shop.worker(**new)
    words = f"`kairos promote {shop.run_name} --execute`"
    await until(lambda: words in waiting.get("/ready")[1], 30, lambda: waiting.text, waiting)
    shop_env, shop.env = shop.env, {**shop.env, **new}
    refused = await asyncio.to_thread(shop.run, "promote", shop.run_name, "--execute")
    assert refused.returncode == 78
    assert "Workers of another schema still run: kairos worker at " in refused.stderr
    assert "KAIROS_FEATURES" in refused.stderr
    assert old.term() == 0
    await shop.send(events(shop.topics, 300, seed=2))
    done = await shop.promote(shop.run_name, "--execute")
    assert done["in_force"]["serving"] == shop.run_name
    await waiting.ready()
    shop.env = shop_env
    late = shop.worker()  # of the old declaration, which nobody waits for any more
    await until(lambda: late.process.poll() is not None, 40, lambda: late.text)
    assert late.process.returncode == 78
    assert "kairos replay --mode rebuild --into" in late.text
