"""Surveys of the tables over one server and over a Cluster: queues, fences, and memory by part."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.keys import Keys
from streams.service.redis_facts import clock_ahead_ms, cpu_seconds, server_facts
from streams.tables import survey
from streams.tables.memory_use import memory_use
from streams.tables.survey import QueueLook, Waiting, queues
from tests.contract.backends import client_of

NOW_MS = 1_800_000_000_000
PARTITIONS = 4


async def test_queues_are_counted_at_a_moment(client: Any, keys: Keys) -> None:
    first, second = keys.user_tag(0), keys.user_tag(1)
    await client.zadd(Keys.queue(first), {"due": NOW_MS * 4 + 3, "late": (NOW_MS - 50) * 4 + 1, "soon": NOW_MS * 4 + 4})
    await client.zadd(Keys.leased(first), {"held": (NOW_MS + 9) * 4, "gone": (NOW_MS - 9) * 4})
    await client.zadd(Keys.queue(second), {"soon": (NOW_MS + 5) * 4})

    assert await queues(client, keys, range(3), NOW_MS) == [
        QueueLook(0, due=2, waiting=1, leased=2, expired=1, oldest=Waiting("late", NOW_MS - 50, 1)),
        QueueLook(1, due=0, waiting=1, leased=0, expired=0, oldest=Waiting("soon", NOW_MS + 5, 0)),
        QueueLook(2, due=0, waiting=0, leased=0, expired=0, oldest=None),
    ]
    assert await queues(client, keys, [], NOW_MS) == []


async def test_fences_are_read_from_the_meta_hashes(client: Any, keys: Keys) -> None:
    await client.hset(Keys.meta(keys.user_tag(1)), mapping={"n": 4, "b:t": 10, "i:t": "ID", "b:s": 5, "o:s": 7})

    none, meta = await survey.metas(client, [keys.user_tag(0), keys.user_tag(1)])

    assert none == {}
    assert (survey.fence(meta, "t"), survey.fence(meta, "s"), survey.fence(meta, "x")) == (9, 7, None)
    assert (survey.topic_id(meta, "t"), survey.topic_id(meta, "s")) == ("ID", "")
    assert (survey.partitions(meta), survey.partitions(none)) == (4, None)


async def test_memory_is_weighed_by_part_and_only_of_this_namespace(client: Any, keys: Keys) -> None:
    users = 400
    for n in range(users):
        tag = keys.user_tag(n % PARTITIONS)
        await client.set(Keys.row(tag, b"user-%d" % n), bytes(200))
        if n % 4 == 0:
            await client.set(Keys.pushes(tag, b"user-%d" % n), bytes(1000))
        await client.zadd(Keys.queue(tag), {b"user-%d" % n: n})
    await client.hset(Keys.item_rows(keys.item_tag(1)), mapping={b"i%d" % n: bytes(300) for n in range(50)})
    await client.set(Keys.row(Keys(keys.namespace + "x").user_tag(0), b"u"), bytes(5000))

    use = await memory_use(client, keys, PARTITIONS, 2)

    row, log, queue, items = (use.part(name) for name in ("rows", "push logs", "queue", "item rows"))
    assert row is not None
    assert log is not None
    assert queue is not None
    assert items is not None
    assert (row.members, log.members, queue.members, items.members) == (users, 100, users, 50)
    assert row.exact
    assert 200 < row.bytes_each < 500
    assert 1000 < log.bytes_each < 2000
    assert row.payload_bytes == 200 * users
    assert 8 < queue.bytes_each < 300
    assert 300 < items.bytes_each < 900
    assert use.part("catalogue") is None
    assert use.all_keys >= use.keys == users + 100 + PARTITIONS + 1
    assert use.used_bytes > use.n_bytes > 200 * users


async def test_an_empty_namespace_weighs_nothing(client: Any, keys: Keys) -> None:
    use = await memory_use(client, keys, PARTITIONS, 2)
    assert (use.n_bytes, use.keys) == (0, 0)


async def test_servers_say_what_they_are_and_what_time_it_is(client: Any) -> None:
    facts = await server_facts(client)
    assert {(server.software, server.policy, server.append_only) for server in facts} == {
        ("Valkey", "noeviction", facts[0].append_only)
    }
    assert all(server.release >= (8,) and server.used_bytes > 0 for server in facts)
    assert len({server.name for server in facts}) == len(facts)
    assert abs(await clock_ahead_ms(client)) < 1_000
    before = await cpu_seconds(client)
    assert 0 < before <= await cpu_seconds(client)


async def test_a_large_key_space_is_sampled_and_the_count_is_close(
    redis_url: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.tables.memory_use.SCANNED", 2_000)
    async with client_of(redis_url) as client:
        for start in range(0, 12_000, 1_000):
            rows = {Keys.row(keys.user_tag(0), b"%d" % n): b"row" for n in range(start, start + 1_000)}
            await client.mset(rows)
        use = await memory_use(client, keys, 1, 1)
    row = use.part("rows")
    assert row is not None
    assert not row.exact
    assert abs(row.members - 12_000) < 1_500
