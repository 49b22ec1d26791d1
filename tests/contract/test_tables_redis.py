"""What only a real server can do to the fenced table: wrong types, full memory, lost scripts, frozen and killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from deploy.stack import Valkey
from schemas.keys import Keys
from streams.tables.errors import Broken, Evicting, Rewind
from streams.tables.part import Outcome
from streams.tables.redis_store import RedisStore
from streams.tables.users import UserTable
from streams.tables.weather import Weather
from tests.chunked import LAYOUT, PARTITION, TOPICS, apply_one, change, chunks, facts, records, truth

CLICKS = TOPICS.clicks
LOG = records(CLICKS, 150)
FIRST, SECOND, THIRD = chunks(CLICKS, LOG)


class Bench:
    """One table over one server, and the server's contents."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.tag = keys.user_tag(PARTITION)
        weather = Weather(first_pause_s=0.01, longest_pause_s=0.1)
        self.table = UserTable(RedisStore(client), keys, LAYOUT, writer="a", weather=weather)

    async def contents(self) -> dict[bytes, bytes]:
        found = [key async for key in self.client.scan_iter(self.tag + b":*", count=10_000)]
        return {key: await self.client.dump(key) for key in found}

    async def rows(self) -> dict[bytes, bytes]:
        prefix = Keys.row(self.tag, b"")
        found = [key async for key in self.client.scan_iter(prefix + b"*", count=10_000)]
        return {key.removeprefix(prefix): await self.client.get(key) for key in found}

    async def apply(self, *wanted: Any) -> list[Outcome]:
        return [await apply_one(self.table, chunk, change(chunk.records)) for chunk in wanted]


@asynccontextmanager
async def bench_on(url: str, namespace: str, **options: Any) -> AsyncIterator[Bench]:
    """A table with its partition initialised."""
    client = Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)
    bench = Bench(client, Keys(namespace))
    try:
        await bench.table.initialise(facts(CLICKS))
        yield bench
    finally:
        await client.aclose()


@pytest.fixture
async def bench(redis_url: str, namespace: str) -> AsyncIterator[Bench]:
    async with bench_on(redis_url, namespace) as made:
        yield made


@pytest.mark.parametrize("key", [Keys.queue, Keys.meta])
async def test_a_key_of_the_wrong_type_leaves_nothing_half_written(bench: Bench, key: Callable[[bytes], bytes]) -> None:
    await bench.apply(FIRST)
    await bench.client.set(key(bench.tag), "not what it should be")
    before = await bench.contents()
    with pytest.raises(Broken, match="WRONGTYPE"):
        await bench.apply(SECOND)
    assert await bench.contents() == before


async def test_a_fence_set_back_by_hand_is_noticed(bench: Bench) -> None:
    await bench.apply(FIRST, SECOND)
    await bench.client.hset(Keys.meta(bench.tag), f"o:{CLICKS}", 20)
    with pytest.raises(Rewind) as rewind:
        await bench.apply(THIRD)
    assert rewind.value.offset == 21


async def test_a_row_of_the_wrong_type_is_written_anew(bench: Bench) -> None:
    user = LOG[0].key
    assert user is not None
    await bench.client.rpush(Keys.row(bench.tag, user), "x")
    # MGET answers None for a list and MSET replaces it: the row of a user is whatever the log says.
    await bench.apply(FIRST, SECOND, THIRD)
    assert await bench.rows() == truth(LOG)


async def test_full_memory_leaves_nothing_half_written_and_passes(
    make_valkey: Callable[..., Valkey], namespace: str
) -> None:
    async with bench_on(make_valkey().url, namespace) as bench:
        await bench.apply(FIRST)
        before = await bench.contents()
        await bench.client.config_set("maxmemory", "1mb")
        held = asyncio.ensure_future(bench.apply(SECOND))
        await asyncio.sleep(0.3)
        assert not held.done()
        assert "maxmemory" in (bench.table.weather.trouble or "")
        assert await bench.contents() == before
        await bench.client.config_set("maxmemory", "0")
        assert await held == [Outcome.APPLIED]
        assert bench.table.weather.trouble is None
        await bench.apply(THIRD)
        assert bench.table.stats.unknown == 0  # a refusal is an answer
        assert await bench.rows() == truth(LOG)


async def test_a_server_that_forgot_the_script_is_taught_it_again(bench: Bench) -> None:
    await bench.apply(FIRST)
    await bench.client.script_flush()
    assert await bench.apply(SECOND, THIRD) == [Outcome.APPLIED] * 2
    assert await bench.rows() == truth(LOG)


async def test_a_call_that_times_out_and_runs_later_counts_once(
    make_valkey: Callable[..., Valkey], namespace: str
) -> None:
    async with bench_on(make_valkey().url, namespace, socket_timeout=0.2) as bench:
        await bench.apply(FIRST)
        await bench.client.client_pause(700, all=False)  # writes wait in the server, reads go on
        assert await bench.apply(SECOND) == [Outcome.APPLIED]
        assert bench.table.stats.unknown >= 1
        await bench.apply(THIRD)
        assert await bench.rows() == truth(LOG)


async def test_connections_cut_in_the_middle_of_calls_count_once(
    make_valkey: Callable[..., Valkey], namespace: str
) -> None:
    log = records(CLICKS, 3000, seed=3)
    url = make_valkey().url
    async with bench_on(url, namespace) as bench, Redis.from_url(url) as killer:
        applying = asyncio.ensure_future(bench.apply(*chunks(CLICKS, log, 10)))
        while not applying.done():
            await asyncio.sleep(0.05)
            await killer.client_kill_filter(_type="normal", skipme=True)
        assert set(await applying) == {Outcome.APPLIED}
        assert bench.table.weather.errors > 0
        await bench.client.connection_pool.disconnect()
        assert await bench.rows() == truth(log)


async def test_a_killed_server_that_comes_back_is_waited_for(
    make_valkey: Callable[..., Valkey], namespace: str
) -> None:
    server = make_valkey(config={"appendfsync": "always"})
    async with bench_on(server.url, namespace) as bench:
        await bench.apply(FIRST)
        server.kill()
        held = asyncio.ensure_future(bench.apply(SECOND, THIRD))
        await asyncio.sleep(0.3)
        assert not held.done()
        await asyncio.to_thread(server.start)
        assert await held == [Outcome.APPLIED] * 2
        assert await bench.rows() == truth(LOG)


async def test_a_server_that_lost_its_tail_makes_the_next_chunk_rewind(
    make_valkey: Callable[..., Valkey], namespace: str
) -> None:
    server = make_valkey(config={"appendonly": "no"})
    async with bench_on(server.url, namespace) as bench:
        await bench.apply(FIRST)
        await bench.client.save()
        await bench.apply(SECOND)
        server.kill()  # what came after the snapshot is gone
        await asyncio.to_thread(server.start)
        with pytest.raises(Rewind) as rewind:
            await bench.apply(THIRD)
        assert rewind.value.offset == 50
        await bench.apply(SECOND, THIRD)
        assert await bench.rows() == truth(LOG)


async def test_a_server_that_evicts_is_refused(make_valkey: Callable[..., Valkey], namespace: str) -> None:
    async with bench_on(make_valkey(config={"maxmemory-policy": "allkeys-lru"}).url, namespace) as bench:
        with pytest.raises(Evicting, match=r"allkeys-lru.*noeviction"):
            await bench.table.check_server()


async def test_a_user_without_rights_is_told_not_waited_for(make_valkey: Callable[..., Valkey], namespace: str) -> None:
    url = make_valkey().url
    async with bench_on(url, namespace) as bench:
        await bench.client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read", "+hello")
        poor = Redis.from_url(url.replace("//", "//reader:secret@"), retry=Retry(NoBackoff(), 0))
        table = UserTable(RedisStore(poor), Keys(namespace), LAYOUT, writer="b")
        with pytest.raises(Broken, match="rights"):
            await apply_one(table, FIRST, change(FIRST.records))
        await poor.aclose()
        wrong = Redis.from_url(url.replace("//", "//reader:wrong@"), retry=Retry(NoBackoff(), 0))
        with pytest.raises(Broken):
            await UserTable(RedisStore(wrong), Keys(namespace), LAYOUT, writer="c").check(FIRST)
        await wrong.aclose()


async def test_a_long_chunk_is_written_in_slices(bench: Bench) -> None:
    log = [record for seed in range(3) for record in records(CLICKS, 40, seed=seed)]
    many = [r._replace(offset=i, key=f"x{i}".encode()) for i, r in enumerate(log * 50)]
    whole = change(log * 50)
    whole.users = [f"x{i}" for i in range(len(many))]
    (chunk,) = chunks(CLICKS, many, 10_000)
    for i in range(len(many)):
        whole.offsets[i] = i
    assert await apply_one(bench.table, chunk, whole) is Outcome.APPLIED
    assert len(await bench.rows()) == len(many) == await bench.client.zcard(Keys.queue(bench.tag))
