"""A model worker follows what serves, and what was pushed before counts in every namespace that serves after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.stack import ValkeyCluster
from model_server.worker import EXIT_REFUSED
from schemas.keys import Keys
from streams.service import namespaces
from streams.service.namespaces import InForce
from tests.affected import Shop, catalogue, open_shop, until, visits
from tests.contract.backends import client_of

HOUR_MS = 3_600_000


class Moving:
    """A shop, and the same shop in a run beside it."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.name, self.run_name = shop, shop.keys.namespace, f"{shop.keys.namespace}-run"
        self.force = InForce(self.name, self.name)

    async def prepare(self) -> None:
        """Partitions and items of the run, by hand, and the run marked as a replay marks it."""
        await namespaces.amend(self.shop.redis, self.name, self.run_name, {"mode": "rebuild"})
        for namespace in (self.name, self.run_name):
            self.shop.keys = Keys(namespace)
            for tag, count in ((self.shop.keys.user_tag, 4), (self.shop.keys.item_tag, 2)):
                for partition in range(count):
                    await self.shop.redis.hset(Keys.meta(tag(partition)), "n", count)
            await self.shop.list_items(*catalogue())
        self.shop.keys = Keys(self.name)

    async def promote(self, target: str) -> None:
        """Let another namespace serve, as the last step of a promotion does."""
        former = (self.force.serving, *[name for name in self.force.logs if name not in (self.force.serving, target)])
        wanted = InForce(target, target, self.force.serving, former)
        assert await namespaces.move(self.shop.redis, self.name, self.force, wanted)
        self.force, self.shop.keys = wanted, Keys(target)


@pytest.fixture
async def moving(
    kafka: str, redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> AsyncIterator[Moving]:
    async with open_shop(kafka, redis_url, topic_prefix, namespace, tmp_path) as shop:
        made = Moving(shop)
        await made.prepare()
        yield made


async def test_a_run_sends_nothing_under_its_own_name_be_it_promoted_or_not(
    moving: Moving, caplog: pytest.LogCaptureFixture
) -> None:
    shop, name, run = moving.shop, moving.name, moving.run_name

    async def refused() -> str:
        caplog.clear()
        life = shop.life(env={"KAIROS_NAMESPACE": run}, drain=True)
        assert await life.run(asyncio.Event()) == EXIT_REFUSED
        return caplog.text

    assert f"{run} is a run beside {name}" in await refused()
    await moving.promote(run)
    assert f"{run} is in force for {name}: set KAIROS_NAMESPACE={name}" in await refused()
    await moving.promote(name)
    assert f"{run} is a run beside {name}" in await refused()


async def test_who_was_pushed_before_a_promotion_is_not_pushed_after_it(moving: Moving) -> None:
    shop = moving.shop
    await shop.affect(*visits(["u1"]))
    await shop.drain()
    await moving.promote(moving.run_name)
    await shop.affect(*visits(["u1", "u2"], seed=1))
    await shop.drain()
    decided = {(d.user, d.outcome): d for d in (await shop.sent()).decisions}
    assert set(decided) == {("u1", "sent"), ("u1", "held"), ("u2", "sent")}
    held = decided["u1", "held"]
    assert held.steps[-1].rule == "minimum_gap"
    assert held.retry_ms == decided["u1", "sent"].ts_ms + 4 * HOUR_MS
    await moving.promote(moving.name)
    await shop.affect(*visits(["u2"], seed=2))
    await shop.drain()
    assert len((await shop.sent()).candidates) == 2
    third = f"{moving.name}-third"
    moving.run_name = third
    await moving.prepare()
    await moving.promote(third)
    await shop.affect(*visits(["u1", "u2"], seed=3))
    await shop.drain()
    assert len((await shop.sent()).candidates) == 2, "two promotions later both logs count still"


async def test_what_was_pushed_before_is_taken_back_and_counted_after(moving: Moving) -> None:
    shop = moving.shop
    await shop.affect(*visits(["u1"]))
    await shop.drain()
    ((first,), _, _) = await shop.sent()
    await moving.promote(moving.run_name)
    await shop.affect({"user_id": "u1", "item_id": first.item.id, "kind": "purchase"}, priority=0)
    await shop.drain(KAIROS_MINIMUM_GAP_S="0")
    candidates = (await shop.sent()).candidates
    (back,) = [c for c in candidates if c.status == "retracted"]
    assert (back.dedup_key, back.collapse_key) == (first.dedup_key, first.collapse_key)
    log = await shop.push_log("u1")
    assert (log[0]["dedup_key"], log[0]["retracted"]) == (first.dedup_key, True)
    await moving.promote(moving.name)
    await shop.affect(*visits(["u1"], seed=4))
    await shop.drain(KAIROS_MINIMUM_GAP_S="0")
    assert len([c for c in (await shop.sent()).candidates if c.status == "retracted"]) == 1, "it is taken back once"


async def test_a_retried_user_gets_the_same_dedup_key_after_a_promotion(moving: Moving) -> None:
    """A worker died between candidate and acknowledgement; its user is scored again where it was moved to."""
    shop = moving.shop
    await shop.affect(*visits(["u1"]))
    await shop.drain()
    tag = shop.tag("u1")
    await shop.redis.delete(Keys.pushes(tag, b"u1"))  # the acknowledgement that never came
    await moving.promote(moving.run_name)
    await shop.affect(*visits(["u1"]))
    await shop.drain()
    first, second = (await shop.sent()).candidates
    assert first.item.id == second.item.id
    assert first.dedup_key == second.dedup_key, "the gateway drops the second"


async def test_a_running_worker_goes_on_in_what_serves(moving: Moving) -> None:
    shop = moving.shop
    async with shop.serving() as life:
        await shop.affect(*visits(["u1"]))
        await until(lambda: _decided(shop, 1))
        assert life.about() == {"namespace": moving.name}
        await moving.promote(moving.run_name)
        await shop.affect(*visits(["u2"]))
        await until(lambda: _decided(shop, 2))
        assert life.about() == {"namespace": moving.run_name}
        assert life.missing() == {}
        await moving.promote(moving.name)
        await shop.affect(*visits(["u3", "u1"], seed=9))
        await until(lambda: _decided(shop, 4))
    decisions = (await shop.sent()).decisions
    assert sorted(d.user for d in decisions) == ["u1", "u1", "u2", "u3"]
    assert [c.user.id for c in (await shop.sent()).candidates if c.user.id == "u1"] == ["u1"]
    assert await shop.leased() == 0


async def test_former_logs_are_read_in_a_cluster(
    kafka: str, make_cluster: Callable[..., ValkeyCluster], topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    url = make_cluster().url
    async with open_shop(kafka, url, topic_prefix, namespace, tmp_path) as shop:
        moving = Moving(shop)
        await moving.prepare()
        await shop.affect(*visits(["u1", "u2"]))
        await shop.drain()
        await moving.promote(moving.run_name)
        await shop.affect(*visits(["u1", "u3"], seed=1))
        await shop.drain()
        assert sorted(c.user.id for c in (await shop.sent()).candidates) == ["u1", "u2", "u3"]
        async with client_of(url) as client:
            assert (await namespaces.in_force(client, moving.name)).logs == (moving.name,)


async def _decided(shop: Shop, n: int) -> Any:
    return len((await shop.sent()).decisions) >= n
