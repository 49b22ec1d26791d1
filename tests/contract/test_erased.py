"""Who is erased stays away, whoever holds the row: kept by the memory twin, by one Valkey and by a Cluster alike."""

from __future__ import annotations

from typing import Any

import orjson

from schemas.events import decode_run
from schemas.keys import Keys
from streams.features.declaration import DEFAULT
from streams.features.features_file import merge
from streams.features.rows import Layout
from streams.operations.erasing import FOR_EVER_MS, erase, newest_ms
from streams.tables.erased import copy_erased
from streams.tables.part import Outcome
from streams.tables.store import Erasure
from tests.chunked import (
    LAYOUT,
    NOW_MS,
    PARTITION,
    PARTITIONS,
    TOPICS,
    USERS,
    Raw,
    apply_one,
    change,
    chunks,
    event,
    facts,
    records,
    truth,
)
from tests.contract.backends import Backend, InRedis, MakeTable

CLICKS, BROWSES = TOPICS.clicks, TOPICS.browses
GONE, ODD = USERS[0], "пёс:{x} \t".strip() + "*?"


def without(log: list[Raw], user: str, until_ms: int) -> list[Raw]:
    """The records but for a user's up to a time."""
    return [r for r in log if r.key != user.encode() or orjson.loads(r.value or b"")["ts_ms"] > until_ms]


def test_the_logs_hold_the_user_that_is_erased() -> None:
    for seed in (0, 1):
        assert len(without(records(CLICKS, 200, seed=seed), GONE, NOW_MS)) < 200


async def test_a_worker_that_holds_the_row_forgets_it(make: MakeTable, backend: Backend, tag: bytes) -> None:
    table, log = make(), records(CLICKS, 400)
    first, *others = chunks(CLICKS, log, 100)
    await apply_one(table, first, change(first.records))
    assert GONE.encode() in await backend.rows(tag)
    removed, until_ms = await erase(backend.store, LAYOUT, tag, GONE.encode(), NOW_MS)
    assert (removed.row_bytes > 0, removed.queued, removed.erased_ms, until_ms) == (True, True, None, NOW_MS)
    assert GONE.encode() not in await backend.rows(tag)
    assert GONE.encode() not in await backend.queue(tag)
    for chunk in others:
        assert await apply_one(table, chunk, change(chunk.records)) is Outcome.APPLIED
    assert table.stats.conflicts == 1
    assert await backend.rows(tag) == truth(without(log, GONE, NOW_MS))
    assert GONE.encode() not in await backend.queue(tag)
    assert table.results["erased"] == sum(r.key == GONE.encode() for r in log[100:])


async def test_what_the_user_does_later_is_a_new_users(make: MakeTable, backend: Backend, tag: bytes) -> None:
    table, log = make(), records(CLICKS, 100)
    times = sorted(orjson.loads(r.value or b"")["ts_ms"] for r in log if r.key == GONE.encode())
    until_ms = times[len(times) // 2]
    await erase(backend.store, LAYOUT, tag, GONE.encode(), until_ms)
    for chunk in chunks(CLICKS, log, 30):
        await apply_one(table, chunk, change(chunk.records))
    rows = await backend.rows(tag)
    assert GONE.encode() in rows
    assert rows == truth(without(log, GONE, until_ms))
    assert times[0] < until_ms < times[-1]


async def test_the_newest_event_of_a_row_counts_where_clocks_run_ahead(
    make: MakeTable, backend: Backend, tag: bytes
) -> None:
    table, user = make(), GONE.encode()
    log = [Raw(0, user, event(GONE, ts_ms=NOW_MS + 1000)), Raw(1, user, event(GONE, ts_ms=NOW_MS + 1000))]
    first, second = (chunks(CLICKS, log[i : i + 1], prev=i - 1)[0] for i in (0, 1))

    def said(chunk: Any) -> Any:
        return change_ahead(chunk.records)

    await apply_one(table, first, said(first))
    _, until_ms = await erase(backend.store, LAYOUT, tag, user, NOW_MS)
    assert until_ms == NOW_MS + 1000
    await apply_one(table, second, said(second))
    assert await backend.rows(tag) == {}


def change_ahead(log: Any) -> Any:
    """What records a little ahead of the clock say."""
    from numpy import array, int64

    from streams.tables.users import UserChange
    from tests.chunked import ENCODER

    run = decode_run(log, kinds=frozenset({"click"}), now_ms=NOW_MS, max_skew_ms=5000, horizon_ms=400 * 86_400_000)
    assert not run.rejects
    assert run.events
    return UserChange(array([r.offset for r in log], int64), run.users, ENCODER.encode(run), NOW_MS, NOW_MS)


async def test_a_row_that_changed_meanwhile_is_read_again(make: MakeTable, backend: Backend, tag: bytes) -> None:
    table, log = make(), records(CLICKS, 200)
    first, second = chunks(CLICKS, log, 100)
    await apply_one(table, first, change(first.records))
    (seen,) = await backend.store.user_rows(tag, [GONE.encode()])
    await apply_one(table, second, change(second.records))
    assert await backend.store.erase(tag, Erasure(GONE.encode(), NOW_MS, b"new", seen)) is None
    assert await backend.rows(tag) == truth(log)
    assert (await backend.meta(tag))[b"ver"] != b"new"
    await erase(backend.store, LAYOUT, tag, GONE.encode(), NOW_MS)
    assert await backend.rows(tag) == truth(without(log, GONE, NOW_MS))


async def test_erasing_again_finds_the_tombstone_and_never_lowers_it(
    make: MakeTable, backend: Backend, tag: bytes
) -> None:
    make()
    user = ODD.encode()
    first, _ = await erase(backend.store, LAYOUT, tag, user, FOR_EVER_MS)
    second, _ = await erase(backend.store, LAYOUT, tag, user, NOW_MS)
    assert (first.row_bytes, first.pushes, first.queued, first.leased, first.erased_ms) == (
        0,
        False,
        False,
        False,
        None,
    )
    assert second.erased_ms == FOR_EVER_MS
    assert (await backend.store.standing(tag))[1] == {user: FOR_EVER_MS}


async def test_a_rollback_of_rows_rereads_without_the_erased(make: MakeTable, backend: Backend, tag: bytes) -> None:
    """A zombie that holds rows and token of before, and events that come again, both meet the tombstone."""
    zombie, owner, log = make("z"), make("o"), records(CLICKS, 300)
    first, second, third = chunks(CLICKS, log, 100)
    await apply_one(zombie, first, change(first.records))
    await erase(backend.store, LAYOUT, tag, GONE.encode(), NOW_MS)
    saved = await backend.save(tag)
    await apply_one(owner, second, change(second.records))
    await backend.restore(tag, saved)
    assert await owner.reload_fence(CLICKS, PARTITION) == 99
    for chunk in (second, third):
        await apply_one(zombie, chunk, change(chunk.records))
    assert await backend.rows(tag) == truth(without(log, GONE, NOW_MS))


async def test_the_newest_event_of_a_row_of_another_declaration_is_unknown(
    make: MakeTable, backend: Backend, tag: bytes
) -> None:
    table, log = make(), records(CLICKS, 100)
    for chunk in chunks(CLICKS, log):
        await apply_one(table, chunk, change(chunk.records))
    row = (await backend.rows(tag))[GONE.encode()]
    assert newest_ms(LAYOUT, row) == max(orjson.loads(r.value or b"")["ts_ms"] for r in log if r.key == GONE.encode())
    assert newest_ms(Layout(merge(DEFAULT, {"windows": {"2h": "2h"}})), row) == 0
    assert newest_ms(LAYOUT, None) == 0


async def test_a_new_namespace_takes_the_tombstones_over(
    make: MakeTable, backend: Backend, keys: Keys, tag: bytes
) -> None:
    if not isinstance(backend, InRedis):
        return
    make()
    log = records(CLICKS, 200)
    for partition in range(PARTITIONS):
        await backend.store.set_once(keys.user_tag(partition), "n", str(PARTITIONS))
    await erase(backend.store, LAYOUT, tag, GONE.encode(), NOW_MS)
    await erase(backend.store, LAYOUT, tag, USERS[1].encode(), 1)
    run = Keys(f"{keys.namespace}-run")
    table = type(make())(backend.store, run, LAYOUT, writer="r")
    await table.initialise(facts(CLICKS))
    assert await copy_erased(backend.client, keys, run, PARTITIONS) == 2
    assert await copy_erased(backend.client, keys, run, PARTITIONS) == 2
    for chunk in chunks(CLICKS, log):
        await apply_one(table, chunk, change(chunk.records))
    assert await backend.rows(run.user_tag(PARTITION)) == truth(without(log, GONE, NOW_MS))
    wider = Keys(f"{keys.namespace}-wider")
    assert await copy_erased(backend.client, keys, wider, 2 * PARTITIONS) == 2
    found = [(await backend.store.standing(wider.user_tag(p)))[1] for p in range(2 * PARTITIONS)]
    assert {user for some in found for user in some} == {GONE.encode(), USERS[1].encode()}
