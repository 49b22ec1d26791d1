"""The lease contract on a real Valkey, single node and Cluster."""

from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio.cluster import RedisCluster

from model_server.holding import Holding
from model_server.metrics import ModelMetrics
from model_server.queue import Ack, Lease, LeaseQueue, Taken
from schemas.keys import Keys
from streams.service.waiting import Waiting
from streams.tables.redis_store import RedisStore
from streams.tables.store import Erasure

T = 1_800_000_000_000
LEASE_MS = 10_000


class Shop:
    """One namespace of two partitions: queues users as the stream worker does, and leases them."""

    def __init__(self, redis: Any, keys: Keys) -> None:
        self.redis = redis
        self.keys = keys

    def worker(self, seed: int = 0) -> LeaseQueue:
        return LeaseQueue(self.redis, self.keys, 2, LEASE_MS, Random(seed))

    async def touch(self, user: str, deadline_ms: int, priority: int = 1, partition: int = 0) -> None:
        key = self.keys.queue(self.keys.user_tag(partition))
        await self.redis.zadd(key, {user: deadline_ms * 4 + priority}, lt=True)

    async def queued(self, partition: int = 0) -> dict[str, int]:
        key = self.keys.queue(self.keys.user_tag(partition))
        return {user.decode(): int(score) for user, score in await self.redis.zrange(key, 0, -1, withscores=True)}

    async def leased(self, partition: int = 0) -> int:
        return int(await self.redis.zcard(self.keys.leased(self.keys.user_tag(partition))))


@pytest.fixture
async def shop(client: Any, request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    keys = Keys(f"queue{abs(hash(request.node.name)) % 10**9}")
    shop = Shop(client, keys)
    yield shop
    for partition in range(2):
        tag = keys.user_tag(partition)
        users = [f"u{i}".encode() for i in range(100)]
        await shop.redis.unlink(keys.queue(tag), keys.leased(tag), *[keys.pushes(tag, user) for user in users])


def names(taken: Taken) -> list[str]:
    return [lease.user.decode() for lease in taken.leases]


async def test_only_due_users_are_leased_and_the_next_deadline_is_told(shop: Shop) -> None:
    await shop.touch("u1", T - 1)
    await shop.touch("u2", T)
    await shop.touch("u3", T + 40)
    taken = await shop.worker().lease(T, 10)
    assert names(taken) == ["u1", "u2"]
    assert (taken.depth, taken.next_due_ms) == (1, T + 40)
    assert [(lease.deadline_ms, lease.priority, lease.token >> 2) for lease in taken.leases] == [
        (T - 1, 1, T + LEASE_MS),
        (T, 1, T + LEASE_MS),
    ]


async def test_the_live_are_leased_ahead_of_their_deadline_but_back_fill_is_not(shop: Shop) -> None:
    await shop.touch("u1", T + 20)
    await shop.touch("u2", T + 21)
    await shop.touch("held", T + 5, priority=3)
    await shop.touch("old", T, priority=3)
    taken = await shop.worker().lease(T, 10, ahead_ms=20)
    assert (names(taken), taken.next_due_ms) == (["u1", "old"], T + 21)
    assert names(await shop.worker().lease(T + 5, 10)) == ["held"]


async def test_an_empty_queue_has_no_next_deadline(shop: Shop) -> None:
    taken = await shop.worker().lease(T, 10)
    assert (taken.leases, taken.depth, taken.expired, taken.next_due_ms) == ([], 0, 0, None)


async def test_two_workers_never_hold_the_same_user(shop: Shop) -> None:
    for i in range(60):
        await shop.touch(f"u{i}", T, partition=i % 2)
    first, second = shop.worker(1), shop.worker(2)
    held = [*names(await first.lease(T, 20)), *names(await second.lease(T, 30)), *names(await first.lease(T, 60))]
    assert sorted(held) == sorted(f"u{i}" for i in range(60))


async def test_the_limit_is_shared_by_the_partitions(shop: Shop) -> None:
    for i in range(40):
        await shop.touch(f"u{i}", T, partition=i % 2)
    taken = await shop.worker().lease(T, 10)
    assert [sum(lease.partition == p for lease in taken.leases) for p in (0, 1)] == [5, 5]
    assert taken.next_due_ms == T


async def test_a_limit_of_one_visits_every_partition_in_time(shop: Shop) -> None:
    await shop.touch("u1", T, partition=0)
    await shop.touch("u2", T, partition=1)
    worker = shop.worker()
    held: set[str] = set()
    for _ in range(40):
        held |= set(names(await worker.lease(T, 1)))
    assert held == {"u1", "u2"}


async def test_events_during_a_lease_bring_the_user_back_after_the_acknowledgement(shop: Shop) -> None:
    await shop.touch("u1", T)
    worker = shop.worker()
    held = (await worker.lease(T, 10)).leases
    await shop.touch("u1", T + 5)
    assert names(await worker.lease(T + 10, 10)) == []
    assert await worker.acknowledge([Ack(held[0])]) == []
    again = await worker.lease(T + 10, 10)
    assert [(lease.user, lease.deadline_ms) for lease in again.leases] == [(b"u1", T + 5)]


async def test_an_expired_lease_is_leased_again_with_its_class(shop: Shop) -> None:
    await shop.touch("u1", T, priority=3)
    await shop.worker(1).lease(T, 10)
    assert names(await shop.worker(2).lease(T + LEASE_MS - 1, 10)) == []
    late = await shop.worker(2).lease(T + LEASE_MS + 1, 10)
    assert (names(late), late.expired, late.leases[0].priority) == (["u1"], 1, 3)


async def test_an_acknowledgement_after_expiry_changes_nothing(shop: Shop) -> None:
    await shop.touch("u1", T)
    slow, quick = shop.worker(1), shop.worker(2)
    stale = (await slow.lease(T, 10)).leases[0]
    fresh = (await quick.lease(T + LEASE_MS + 1, 10)).leases[0]
    late = Ack(stale, push_log=b"[1]")
    assert await slow.acknowledge([late]) == [late]
    assert await shop.redis.get(shop.keys.pushes(shop.keys.user_tag(0), b"u1")) is None
    assert await shop.leased() == 1
    assert await quick.acknowledge([Ack(fresh)]) == []


async def test_the_acknowledgement_writes_the_push_log_with_a_life(shop: Shop) -> None:
    await shop.touch("u1", T, partition=1)
    worker = shop.worker()
    held = (await worker.lease(T, 10)).leases
    assert await worker.acknowledge([Ack(held[0], push_log=b'[{"item":"i"}]')]) == []
    key = shop.keys.pushes(shop.keys.user_tag(1), b"u1")
    assert await shop.redis.get(key) == b'[{"item":"i"}]'
    assert 39 * 86_400 < await shop.redis.ttl(key) <= 40 * 86_400
    assert (await shop.queued(1), await shop.leased(1)) == ({}, 0)


async def test_a_held_user_is_queued_as_backfill_at_its_new_deadline(shop: Shop) -> None:
    await shop.touch("u1", T, priority=0)
    worker = shop.worker()
    held = (await worker.lease(T, 10)).leases
    await worker.acknowledge([Ack(held[0], requeue_ms=T + 3_600_000)])
    assert await shop.queued() == {"u1": (T + 3_600_000) * 4 + 3}


async def test_a_held_user_with_news_keeps_the_earlier_deadline(shop: Shop) -> None:
    await shop.touch("u1", T)
    worker = shop.worker()
    held = (await worker.lease(T, 10)).leases
    await shop.touch("u1", T + 50, priority=0)
    await worker.acknowledge([Ack(held[0], requeue_ms=T + 3_600_000)])
    assert await shop.queued() == {"u1": (T + 50) * 4}


async def test_a_returned_user_keeps_its_score(shop: Shop) -> None:
    await shop.touch("u1", T, priority=0)
    worker = shop.worker()
    held = (await worker.lease(T, 10)).leases
    await worker.acknowledge([Ack(held[0], score=held[0].score)])
    assert await shop.queued() == {"u1": T * 4}


async def test_an_extended_lease_outlives_its_first_term(shop: Shop) -> None:
    await shop.touch("u1", T, priority=2)
    worker = shop.worker()
    held = (await worker.lease(T, 10)).leases
    assert await worker.extend(held, T + 9_000) == []
    assert (held[0].token >> 2, held[0].token & 3) == (T + 9_000 + LEASE_MS, 2)
    assert names(await shop.worker(2).lease(T + LEASE_MS + 1, 10)) == []
    assert await worker.acknowledge([Ack(held[0])]) == []


async def test_an_extension_whose_reply_was_lost_can_be_repeated(shop: Shop) -> None:
    await shop.touch("u1", T)
    worker = shop.worker()
    held = (await worker.lease(T, 10)).leases
    unaware = [replace(lease) for lease in held]
    await worker.extend(held, T + 9_000)
    assert await worker.extend(unaware, T + 9_000, again=True) == []
    assert await worker.acknowledge([Ack(unaware[0])]) == []


async def test_a_term_of_the_same_millisecond_is_not_taken_for_ones_own(shop: Shop) -> None:
    await shop.touch("u1", T)
    slow, quick = shop.worker(1), shop.worker(2)
    lost = (await slow.lease(T, 10)).leases
    now = (await quick.lease(T + LEASE_MS + 1, 10)).leases
    assert await quick.extend(now, T + LEASE_MS + 2) == []
    assert await slow.extend(lost, T + LEASE_MS + 2) == lost
    assert await slow.acknowledge([Ack(lost[0])]) == [Ack(lost[0])]
    assert await quick.acknowledge([Ack(now[0])]) == []


async def test_a_user_given_out_anew_to_the_same_worker_is_held_once(shop: Shop) -> None:
    await shop.touch("u1", T)
    worker, registry = shop.worker(), CollectorRegistry()
    holding = Holding(worker, Waiting(), ModelMetrics(registry, (0,) * 4), lambda: T + LEASE_MS + 2)
    (old,) = (await worker.lease(T, 10)).leases
    holding.add([old])
    (new,) = (await worker.lease(T + LEASE_MS + 1, 10)).leases
    holding.add([new])
    assert (old in holding, new in holding, len(holding)) == (False, True, 1)
    await holding.confirm([new])
    await holding.acknowledge([Ack(old, push_log=b"old")])
    assert new in holding
    await holding.acknowledge([Ack(new, push_log=b"new")])
    assert len(holding) == 0
    assert await shop.redis.get(shop.keys.pushes(shop.keys.user_tag(0), b"u1")) == b"new"


async def test_a_lost_lease_cannot_be_extended(shop: Shop) -> None:
    await shop.touch("u1", T)
    slow = shop.worker(1)
    held = (await slow.lease(T, 10)).leases
    await shop.worker(2).lease(T + LEASE_MS + 1, 10)
    before = held[0].token
    assert await slow.extend(held, T + LEASE_MS + 2) == held
    assert held[0].token == before


async def test_a_purchase_overtakes_a_backlog_of_backfill(shop: Shop) -> None:
    for i in range(90):
        await shop.touch(f"u{i}", T - 100_000 + i, priority=3)
    await shop.touch("u90", T - 5, priority=0)
    await shop.touch("u91", T - 9, priority=1)
    taken = await shop.worker().lease(T, 4)
    assert names(taken)[:2] == ["u90", "u91"]


async def test_a_server_that_forgot_the_scripts_is_served_again(shop: Shop) -> None:
    worker = shop.worker()
    await worker.lease(T, 10)
    everywhere = {"target_nodes": RedisCluster.PRIMARIES} if isinstance(shop.redis, RedisCluster) else {}
    await shop.redis.execute_command("SCRIPT FLUSH", **everywhere)
    await shop.touch("u1", T)
    assert names(await worker.lease(T, 10)) == ["u1"]


async def test_nothing_to_acknowledge_is_no_call(shop: Shop) -> None:
    worker = shop.worker()
    none: list[Lease] = []
    assert (await worker.acknowledge([]), await worker.extend(none, T)) == ([], [])


async def test_a_worker_that_holds_an_erased_user_writes_nothing(shop: Shop) -> None:
    store, tag, registry = RedisStore(shop.redis), shop.keys.user_tag(0), CollectorRegistry()
    for user in ("gone", "stays"):
        await shop.touch(user, T)
    worker = shop.worker()
    holding = Holding(worker, Waiting(), ModelMetrics(registry, (0,) * 4), lambda: T + 1)
    leases = (await worker.lease(T, 10)).leases
    holding.add(leases)
    removed = await store.erase(tag, Erasure(b"gone", T, b"new", None))
    assert removed is not None
    assert removed.leased
    await holding.confirm(leases)
    assert {lease.user for lease in leases if lease in holding} == {b"stays"}
    acks = [Ack(lease, push_log=b"[]", requeue_ms=T + 5) for lease in leases]
    assert [ack.lease.user for ack in await worker.acknowledge(acks)] == [b"gone"]
    assert await shop.redis.get(shop.keys.pushes(tag, b"gone")) is None
    assert await shop.redis.get(shop.keys.pushes(tag, b"stays")) == b"[]"
    assert await shop.redis.zscore(shop.keys.queue(tag), "gone") is None
