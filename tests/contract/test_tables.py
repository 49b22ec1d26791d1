"""The contract of the fenced table, kept by the memory twin, by one Valkey and by a Valkey Cluster alike."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schemas.keys import Keys
from streams.features.declaration import DEFAULT
from streams.features.features_file import merge
from streams.features.rows import Layout
from streams.tables.errors import OtherDeclaration, Rewind, Stale
from streams.tables.part import Outcome
from streams.tables.users import UserTable
from tests.chunked import LAYOUT, NOW_MS, PARTITION, TOPICS, apply_one, change, chunks, records, truth
from tests.contract.backends import Backend, MakeTable, Watched

CLICKS, BROWSES, ORDERS = TOPICS.clicks, TOPICS.browses, TOPICS.orders


async def test_a_chunk_moves_rows_fence_and_queue_together(make: MakeTable, backend: Backend, tag: bytes) -> None:
    table, log = make(), records(CLICKS, 120)
    for chunk in chunks(CLICKS, log):
        assert await apply_one(table, chunk, change(chunk.records)) is Outcome.APPLIED
    assert await backend.rows(tag) == truth(log)
    assert (await backend.meta(tag))[f"o:{CLICKS}".encode()] == b"119"
    assert set(await backend.queue(tag)) == set(truth(log))
    assert len(truth(log)) < table.stats.rows_written <= 120
    assert table.fence(CLICKS, PARTITION) == 119


async def test_gaps_in_offsets_are_no_holes(make: MakeTable, backend: Backend, tag: bytes) -> None:
    table, log = make(), records(CLICKS, 120, gaps=True)
    for chunk in chunks(CLICKS, log, 7):
        await apply_one(table, chunk, change(chunk.records))
    assert await backend.rows(tag) == truth(log)


async def test_a_chunk_at_or_below_the_fence_is_skipped(make: MakeTable, backend: Backend, tag: bytes) -> None:
    table, log = make(), records(CLICKS, 100)
    first, second = chunks(CLICKS, log)
    outcomes = [await apply_one(table, chunk, change(chunk.records)) for chunk in (first, second, first, second)]
    assert outcomes == [Outcome.APPLIED] * 2 + [Outcome.SKIPPED] * 2
    assert await backend.rows(tag) == truth(log)
    assert (table.stats.applied, table.stats.skipped) == (100, 100)


async def test_a_hole_rewinds_to_the_record_after_the_fence(make: MakeTable) -> None:
    table, log = make(), records(CLICKS, 150)
    first, _, third = chunks(CLICKS, log)
    await apply_one(table, first, change(first.records))
    with pytest.raises(Rewind) as rewind:
        await table.check(third)
    assert (rewind.value.topic, rewind.value.partition, rewind.value.offset) == (CLICKS, PARTITION, 50)
    with pytest.raises(Rewind):
        await apply_one(table, third, change(third.records))


async def test_an_overlap_folds_only_what_is_above_the_fence(make: MakeTable, backend: Backend, tag: bytes) -> None:
    table, log = make(), records(CLICKS, 100)
    (first,) = chunks(CLICKS, log[:60], 60)
    (overlap,) = chunks(CLICKS, log[30:], 70)
    await apply_one(table, first, change(first.records))
    assert await apply_one(table, overlap, change(overlap.records)) is Outcome.APPLIED
    assert await backend.rows(tag) == truth(log)
    assert (table.stats.applied, table.stats.skipped) == (100, 30)


async def test_a_chunk_without_events_moves_the_fence(make: MakeTable, backend: Backend, tag: bytes) -> None:
    table, log = make(), records(CLICKS, 10)
    (chunk,) = chunks(CLICKS, log)
    assert await apply_one(table, chunk, change([])) is Outcome.APPLIED
    assert await table.reload_fence(CLICKS, PARTITION) == 9
    assert await backend.rows(tag) == {}


async def test_a_lost_compare_and_set_reloads_the_rows(make: MakeTable, backend: Backend, tag: bytes) -> None:
    mine, other = make("a"), make("b")
    clicks, browses = records(CLICKS, 100), records(BROWSES, 100)
    first, second = chunks(CLICKS, clicks)
    await apply_one(mine, first, change(first.records))
    for chunk in chunks(BROWSES, browses):
        await apply_one(other, chunk, change(chunk.records))
    assert await apply_one(mine, second, change(second.records)) is Outcome.APPLIED
    assert mine.stats.conflicts == 1
    assert await backend.rows(tag) == truth(clicks, browses)


async def test_a_zombie_with_an_old_token_is_refused_also_after_a_rollback(
    make: MakeTable, backend: Backend, tag: bytes
) -> None:
    zombie, owner = make("z"), make("o")
    clicks, browses, orders = records(CLICKS, 100), records(BROWSES, 50), records(ORDERS, 50)
    first, second = chunks(CLICKS, clicks)
    (browse,), (order,) = chunks(BROWSES, browses), chunks(ORDERS, orders)
    await apply_one(zombie, first, change(first.records))
    saved = await backend.save(tag)
    await apply_one(zombie, browse, change(browse.records))
    await backend.restore(tag, saved)  # the store forgets the zombie's second step, the zombie does not
    await apply_one(owner, order, change(order.records))  # as many steps again: a counter is where it was
    assert await apply_one(zombie, second, change(second.records)) is Outcome.APPLIED
    assert zombie.stats.conflicts == 1
    await apply_one(owner, browse, change(browse.records))
    assert await backend.rows(tag) == truth(clicks, browses, orders)


async def test_after_a_rollback_the_next_chunk_rewinds(make: MakeTable, backend: Backend, tag: bytes) -> None:
    table, log = make(), records(CLICKS, 150)
    first, second, third = chunks(CLICKS, log)
    await apply_one(table, first, change(first.records))
    saved = await backend.save(tag)
    await apply_one(table, second, change(second.records))
    await backend.restore(tag, saved)
    with pytest.raises(Rewind) as rewind:
        await apply_one(table, third, change(third.records))
    assert rewind.value.offset == 50
    for chunk in (second, third):
        await apply_one(table, chunk, change(chunk.records))
    assert await backend.rows(tag) == truth(log)


async def test_an_audit_sees_a_rollback_of_an_idle_partition(make: MakeTable, backend: Backend, tag: bytes) -> None:
    table, log = make(), records(CLICKS, 100)
    first, second = chunks(CLICKS, log)
    await apply_one(table, first, change(first.records))
    saved = await backend.save(tag)
    await apply_one(table, second, change(second.records))
    await backend.restore(tag, saved)
    assert table.fence(CLICKS, PARTITION) == 99
    assert await table.reload_fence(CLICKS, PARTITION) == 49
    await apply_one(table, second, change(second.records))
    assert await backend.rows(tag) == truth(log)


@pytest.mark.parametrize(("luck", "applied_unheard"), [(["lost"], 0), (["unheard"], 1), (["lost", "unheard"], 1)])
async def test_an_unknown_outcome_is_settled_by_reading_the_fence(
    make: MakeTable, backend: Backend, tag: bytes, luck: list[str], applied_unheard: int
) -> None:
    table = make(store=Watched(backend.store, *luck, "fine", *luck))
    log = records(CLICKS, 150)
    for chunk in chunks(CLICKS, log):
        assert await apply_one(table, chunk, change(chunk.records)) is Outcome.APPLIED
    assert table.stats.unknown_applied >= applied_unheard
    assert table.stats.unknown >= len(luck)
    assert table.stats.applied == 150
    assert await backend.rows(tag) == truth(log)


async def test_a_stale_chunk_is_not_waited_for(make: MakeTable, backend: Backend) -> None:
    table = make(store=Watched(backend.store, *["lost"] * 1000))
    (chunk,) = chunks(CLICKS, records(CLICKS, 10))
    answers = iter([False, False, True])
    with pytest.raises(Stale):
        await apply_one(table, chunk, change(chunk.records), lambda: next(answers))
    assert table.weather.trouble is not None


async def test_a_cancelled_actor_leaves_the_table_exact(make: MakeTable, backend: Backend, tag: bytes) -> None:
    table, log = make(), records(CLICKS, 400)
    for chunk in chunks(CLICKS, log, 20):
        for _ in range(3):
            task = asyncio.ensure_future(apply_one(table, chunk, change(chunk.records)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await apply_one(table, chunk, change(chunk.records))
    assert await backend.rows(tag) == truth(log)


async def test_two_writers_racing_give_exact_rows(make: MakeTable, backend: Backend, tag: bytes) -> None:
    clicks, browses = records(CLICKS, 1000, seed=7), records(BROWSES, 1000, seed=8)

    async def run(table: UserTable, topic: str, log: Any) -> None:
        for chunk in chunks(topic, log, 20):
            await apply_one(table, chunk, change(chunk.records))

    tables = [make(writer) for writer in "ab"]
    await asyncio.gather(*[run(t, topic, log) for t in tables for topic, log in ((CLICKS, clicks), (BROWSES, browses))])
    assert await backend.rows(tag) == truth(clicks, browses)
    assert sum(t.stats.applied for t in tables) == 2000
    assert sum(t.stats.conflicts for t in tables) > 0


async def test_rows_beyond_the_cache_are_read_again(make: MakeTable, backend: Backend, tag: bytes) -> None:
    table, log = make(cache_bytes=20 * LAYOUT.row_bytes), records(CLICKS, 400)
    for chunk in chunks(CLICKS, log, 16):
        await apply_one(table, chunk, change(chunk.records))
    assert await backend.rows(tag) == truth(log)
    assert table.stats.rows_read > len(truth(log))


async def test_the_earliest_deadline_of_a_queued_user_counts(make: MakeTable, backend: Backend, tag: bytes) -> None:
    table, log = make(), records(CLICKS, 40)
    early, late = chunks(CLICKS, log, 20)
    await apply_one(table, early, change(early.records))
    before = await backend.queue(tag)
    again = change(late.records)
    again.now_ms = again.heard_ms = NOW_MS + 5_000
    await apply_one(table, late, again)
    after = await backend.queue(tag)
    assert {user: after[user] for user in before} == before
    assert max(after.values()) > max(before.values())


async def test_a_released_partition_is_read_again(make: MakeTable, backend: Backend, tag: bytes) -> None:
    table, log = make(), records(CLICKS, 100)
    first, second = chunks(CLICKS, log)
    await apply_one(table, first, change(first.records))
    table.release(PARTITION)
    assert table.partitions(PARTITION) == 0
    await apply_one(table, second, change(second.records))
    assert await backend.rows(tag) == truth(log)


async def test_a_failed_fold_leaves_no_trace(make: MakeTable, backend: Backend, tag: bytes) -> None:
    table, log = make(), records(CLICKS, 100)
    first, second = chunks(CLICKS, log)
    await apply_one(table, first, change(first.records))
    broken = change(second.records)
    broken.columns.kind[-1] = 200  # no such kind: the fold fails with some of its work done
    with pytest.raises(IndexError):
        await apply_one(table, second, broken)
    assert not await table.folds(PARTITION, broken)
    assert await table.folds(PARTITION, change(second.records))
    await apply_one(table, second, change(second.records))
    assert await backend.rows(tag) == truth(log)


async def test_rows_of_another_declaration_are_refused(make: MakeTable, backend: Backend, keys: Keys) -> None:
    (chunk,) = chunks(CLICKS, records(CLICKS, 10))
    await apply_one(make(), chunk, change(chunk.records))
    other = UserTable(backend.store, keys, Layout(merge(DEFAULT, {"history": 64})), writer="b")
    (again,) = chunks(CLICKS, records(CLICKS, 10, first=10))
    with pytest.raises(
        OtherDeclaration, match=r"features\.toml.*kairos replay --mode rebuild --into NAME.*kairos promote"
    ):
        await apply_one(other, again, change(again.records))


async def test_a_note_beside_a_fence_is_known_to_the_next_process_and_moves_nothing(
    make: MakeTable, backend: Backend, tag: bytes
) -> None:
    table, log = make(), records(CLICKS, 100)
    first, second = chunks(CLICKS, log)
    await apply_one(table, first, change(first.records))
    assert table.note(CLICKS, PARTITION) == b""
    await table.keep_note(CLICKS, PARTITION, b'{"a": 1}')
    await table.keep_note(CLICKS, PARTITION, b'{"a": 2}')
    assert table.note(CLICKS, PARTITION) == b'{"a": 2}'
    await apply_one(table, second, change(second.records))
    other = make()
    assert await other.reload_fence(CLICKS, PARTITION) == 99
    assert (other.note(CLICKS, PARTITION), other.note(BROWSES, PARTITION)) == (b'{"a": 2}', b"")
    assert await backend.rows(tag) == truth(log)
