"""What is in force, who is there, and queues that move: on one server and on a Cluster."""

from __future__ import annotations

from typing import Any

from model_server.queue import LeaseQueue
from schemas.keys import Keys
from schemas.partition import partition_of
from streams.service import namespaces, roll
from streams.service.namespaces import InForce
from streams.tables import queues
from streams.tables.queues import Turn


async def test_before_the_first_promotion_an_installation_is_its_own_namespace(client: Any, namespace: str) -> None:
    assert await namespaces.in_force(client, namespace) == InForce(namespace, namespace)


async def test_what_is_in_force_moves_only_from_what_was_seen(client: Any, namespace: str) -> None:
    start = await namespaces.in_force(client, namespace)
    moving = start._replace(live="run", origin=namespace, target="run", step="moving")
    assert await namespaces.move(client, namespace, start, moving)
    assert await namespaces.in_force(client, namespace) == moving
    assert not await namespaces.move(client, namespace, start, start._replace(live="other"))
    done = InForce("run", "run", previous=namespace, logs=(namespace, "older"))
    assert await namespaces.move(client, namespace, moving, done)
    assert await namespaces.in_force(client, namespace) == done
    back = InForce(namespace, namespace, previous="run", logs=("run", "older"))
    assert await namespaces.move(client, namespace, done, back)
    assert await namespaces.in_force(client, namespace) == back


async def test_a_worker_is_on_the_roll_while_it_says_so(client: Any, namespace: str) -> None:
    one = roll.Roll(client, namespace, roll.myself("stream", 7))
    other = roll.Roll(client, namespace, roll.myself("model", 8))
    assert await one.call() == InForce(namespace, namespace)
    other.works_in("run")
    await other.call()
    found = {member.kind: (member.schema, member.namespace) for member in await roll.present(client, namespace)}
    assert found == {"stream": (7, ""), "model": (8, "run")}
    await one.leave()
    assert [member.kind for member in await roll.present(client, namespace)] == ["model"]
    await client.delete(Keys.worker(namespace, other.member.id))  # as time would
    assert await roll.present(client, namespace) == []
    assert await client.smembers(Keys.workers(namespace)) == set()


async def test_a_worker_waits_for_the_run_that_has_its_schema(client: Any, namespace: str) -> None:
    keys, row = Keys(namespace), (7).to_bytes(4, "little") + b"rest"
    assert await namespaces.schema_of(client, keys) is None
    await client.hset(Keys.meta(keys.item_tag(0)), "n", "2")
    await client.hset(Keys.item_rows(keys.item_tag(1)), "i1", row)
    assert await namespaces.schema_of(client, keys) == 7
    assert await namespaces.run_waited_for(client, namespace, namespace, 9) == ""
    await namespaces.register(client, namespace, "run", {"schema": 9})
    assert await namespaces.run_waited_for(client, namespace, namespace, 9) == "run"
    assert await namespaces.run_waited_for(client, namespace, namespace, 7) == ""


async def test_everybody_queued_is_moved_with_the_earlier_deadline(client: Any, namespace: str) -> None:
    old, new = Keys(namespace), Keys(f"{namespace}-run")
    users = {f"u{i}": 4_000 + i for i in range(2_500)}
    for partition in range(2):
        mine = {user: score for user, score in users.items() if partition_of(user.encode(), 2) == partition}
        await client.zadd(Keys.queue(old.user_tag(partition)), mine)
    await client.zadd(Keys.queue(new.user_tag(partition_of(b"u7", 3))), {"u7": 1})
    left = await queues.move(client, old, new, 2, 3)
    assert (left.moved, left.queued, left.leased) == (2_500, 0, 0)
    found: dict[str, int] = {}
    for partition in range(3):
        entries = await client.zrange(Keys.queue(new.user_tag(partition)), 0, -1, withscores=True)
        assert {partition_of(user, 3) for user, _ in entries} <= {partition}
        found |= {user.decode(): int(score) for user, score in entries}
    assert found == {**users, "u7": 1}
    assert (await queues.move(client, old, new, 2, 3)).moved == 0


async def test_a_lease_is_left_alone_until_it_runs_out(client: Any, namespace: str) -> None:
    old, new = Keys(namespace), Keys(f"{namespace}-run")
    seconds, microseconds = await client.time()
    now_ms = int(seconds) * 1000 + int(microseconds) // 1000
    for lease_ms, user in ((60_000, "held"), (-1_000, "lost")):
        await client.zadd(Keys.queue(old.user_tag(0)), {user: (now_ms - 5) * 4 + 1})
        from random import Random

        (lease,) = (await LeaseQueue(client, old, 1, lease_ms, Random(0)).lease(now_ms, 10)).leases
        assert lease.user == user.encode()
    left = await queues.move(client, old, new, 1, 1)
    assert (left.moved, left.queued, left.leased) == (1, 0, 1)
    assert [user for user, _ in await client.zrange(Keys.queue(new.user_tag(0)), 0, -1, withscores=True)] == [b"lost"]


async def test_one_process_at_a_time_has_the_turn(client: Any, namespace: str) -> None:
    one, other = Turn(client, namespace, "one"), Turn(client, namespace, "other")
    assert await one.take()
    assert await one.take()
    assert not await other.take()
    await other.end()
    assert not await other.take()
    await one.end()
    assert await other.take()


async def test_a_queue_is_emptied_only_while_the_turn_lasts(client: Any, namespace: str) -> None:
    keys = Keys(namespace)
    await client.zadd(Keys.queue(keys.user_tag(1)), {"u1": 1, "u2": 2})
    turn = Turn(client, namespace, "one")
    assert await turn.take()
    assert await queues.empty(client, keys, 2, turn.until_ms - Turn.LASTS_MS - 1) is None
    assert await client.zcard(Keys.queue(keys.user_tag(1))) == 2
    assert await queues.empty(client, keys, 2, turn.until_ms) == 2
    assert await client.exists(Keys.queue(keys.user_tag(1))) == 0
