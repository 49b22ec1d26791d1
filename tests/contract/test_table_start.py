"""Where a table starts reading, and every log and server that it refuses to start on."""

from __future__ import annotations

import pytest

from schemas.keys import Keys
from streams.tables.errors import (
    Evicting,
    LostRange,
    NotInitialised,
    Repartitioned,
    TopicReplaced,
    Truncated,
)
from streams.tables.memory import MemoryStore
from streams.tables.users import UserTable
from tests.chunked import LAYOUT, TOPICS, apply_one, change, chunks, facts, records
from tests.contract.backends import Backend, MakeTable

CLICKS, BROWSES = TOPICS.clicks, TOPICS.browses


async def test_an_uninitialised_partition_is_refused(backend: Backend, keys: Keys) -> None:
    table = UserTable(backend.store, keys, LAYOUT, writer="a")
    (chunk,) = chunks(CLICKS, records(CLICKS, 10))
    with pytest.raises(NotInitialised, match="kairos topics init"):
        await table.start_position(facts(CLICKS))
    with pytest.raises(NotInitialised):
        await apply_one(table, chunk, change(chunk.records))


async def test_a_flushed_store_is_refused_not_started_over(make: MakeTable, backend: Backend, tag: bytes) -> None:
    table, log = make(), records(CLICKS, 100)
    first, second = chunks(CLICKS, log)
    await apply_one(table, first, change(first.records))
    await backend.clear(tag)
    with pytest.raises(NotInitialised, match="kairos replay --mode rebuild --into NAME --execute"):
        await apply_one(table, second, change(second.records))


async def test_a_start_reads_from_the_base_then_from_the_fence(make: MakeTable, keys: Keys, backend: Backend) -> None:
    await make().initialise(facts(CLICKS, partition=2, log_start=40))
    assert await make().start_position(facts(CLICKS, partition=2, log_start=40)) == 40
    table, log = make(), records(CLICKS, 10)
    (chunk,) = chunks(CLICKS, log)
    await apply_one(table, chunk, change(chunk.records))
    assert await make().start_position(facts(CLICKS)) == 10
    assert await make().start_position(facts(CLICKS, log_start=10, log_end=10)) == 10


@pytest.mark.parametrize(
    ("said", "error", "remedy"),
    [
        (
            {"topic_id": "id-2"},
            TopicReplaced,
            "deleted and created again.*`kairos replay --mode rebuild --into NAME",
        ),
        ({"partitions": 6}, Repartitioned, "restore the old count or build .*`kairos promote NAME --execute`"),
        ({"log_start": 11}, LostRange, "raise the topic's retention"),
        ({"log_end": 9}, Truncated, "lost records it had served.*rebuild"),
    ],
)
async def test_a_log_that_is_not_the_same_is_refused(
    make: MakeTable, said: dict[str, object], error: type[Exception], remedy: str
) -> None:
    table, log = make(), records(CLICKS, 10)
    (chunk,) = chunks(CLICKS, log)
    await apply_one(table, chunk, change(chunk.records))
    with pytest.raises(error, match=remedy):
        await make().start_position(facts(CLICKS, **said))


async def test_a_truncated_log_stays_refused_when_it_has_grown_again(make: MakeTable) -> None:
    table, log = make(), records(CLICKS, 10)
    (chunk,) = chunks(CLICKS, log)
    await apply_one(table, chunk, change(chunk.records))
    with pytest.raises(Truncated) as found:
        await table.start_position(facts(CLICKS, log_end=9))
    assert await make().start_position(facts(CLICKS, log_end=10)) == 10
    await table.keep_truncated(found.value)
    with pytest.raises(Truncated, match="ended at offset 9 when the table had applied everything below 10"):
        await make().start_position(facts(CLICKS, log_end=1_000))
    await table.initialise(facts(BROWSES))
    assert await make().start_position(facts(BROWSES)) == 0


async def test_the_first_initialisation_wins(make: MakeTable) -> None:
    table = make()
    await table.initialise(facts(CLICKS, log_start=500))
    assert await table.start_position(facts(CLICKS)) == 0
    with pytest.raises(TopicReplaced):
        await table.initialise(facts(CLICKS, topic_id="id-2"))
    with pytest.raises(Repartitioned):
        await table.initialise(facts(CLICKS, partitions=8))


async def test_the_server_must_not_evict() -> None:
    table = UserTable(MemoryStore("allkeys-lru"), Keys(), LAYOUT, writer="a")
    with pytest.raises(Evicting, match="maxmemory-policy noeviction"):
        await table.check_server()


async def test_a_server_that_keeps_everything_is_accepted(make: MakeTable) -> None:
    await make().check_server()
