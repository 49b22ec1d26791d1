"""Group commit, kept by the memory twin, one Valkey and a Cluster: several topics move in one step, each by itself."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from streams.chunks.chunk import Chunk
from streams.tables.errors import Rewind
from streams.tables.part import Outcome
from streams.tables.users import UserChange, UserTable
from tests.chunked import PARTITION, TOPICS, apply_one, change, chunks, records, truth
from tests.contract.backends import Backend, MakeTable, Watched

CLICKS, BROWSES, ORDERS = TOPICS.clicks, TOPICS.browses, TOPICS.orders
EACH = (CLICKS, BROWSES, ORDERS)


def group(*members: Chunk) -> list[tuple[Chunk, UserChange]]:
    return [(chunk, change(chunk.records)) for chunk in members]


async def test_a_group_moves_all_its_topics_in_one_step(make: MakeTable, backend: Backend, tag: bytes) -> None:
    store = Watched(backend.store)
    table, logs = make(store=store), [records(topic, n) for topic, n in zip(EACH, (60, 30, 90), strict=True)]
    firsts, seconds = zip(*[chunks(t, log, len(log) // 2) for t, log in zip(EACH, logs, strict=True)], strict=True)
    assert await table.apply(group(*firsts)) == [Outcome.APPLIED] * 3
    assert await table.apply(group(*seconds)) == [Outcome.APPLIED] * 3
    assert [len(move.steps) for move in store.moves] == [3, 3]
    assert await backend.rows(tag) == truth(*logs)
    meta = await backend.meta(tag)
    assert [meta[f"o:{topic}".encode()] for topic in EACH] == [b"59", b"29", b"89"]
    assert (table.stats.applied, table.stats.chunks) == (180, 6)


async def test_what_becomes_of_one_chunk_does_not_hold_up_its_neighbours(
    make: MakeTable, backend: Backend, tag: bytes
) -> None:
    table, clicks, browses, orders = make(), *(records(topic, 100) for topic in EACH)
    first, _ = chunks(CLICKS, clicks)
    _, behind_a_hole = chunks(BROWSES, browses)
    (order,) = chunks(ORDERS, orders, 100)
    await apply_one(table, first, change(first.records))
    verdicts = await table.apply(group(first, behind_a_hole, order))
    assert verdicts[0] is Outcome.SKIPPED
    assert isinstance(verdicts[1], Rewind)
    assert (verdicts[1].topic, verdicts[1].offset) == (BROWSES, 0)
    assert verdicts[2] is Outcome.APPLIED
    assert await backend.rows(tag) == truth(clicks[:50], orders)
    assert [table.fence(topic, PARTITION) for topic in EACH] == [49, -1, 99]


async def test_a_chunk_that_grows_stale_is_dropped_and_the_others_go_on(
    make: MakeTable, backend: Backend, tag: bytes
) -> None:
    store = Watched(backend.store, "lost", "lost")
    table, clicks, browses = make(store=store), records(CLICKS, 40), records(BROWSES, 40)
    (click,), (browse,) = chunks(CLICKS, clicks), chunks(BROWSES, browses)
    verdicts = await table.apply(group(click, browse), lambda chunk: chunk.topic == CLICKS and len(store.moves) == 2)
    assert verdicts == [Outcome.STALE, Outcome.APPLIED]
    assert await backend.rows(tag) == truth(browses)
    assert [table.fence(topic, PARTITION) for topic in (CLICKS, BROWSES)] == [-1, 39]


@pytest.mark.parametrize("luck", [["lost"], ["unheard"], ["lost", "unheard"]])
async def test_the_unknown_outcome_of_a_group_is_settled_for_each(
    make: MakeTable, backend: Backend, tag: bytes, luck: list[str]
) -> None:
    table = make(store=Watched(backend.store, *luck))
    logs = [records(topic, 50) for topic in EACH]
    members = [chunks(topic, log)[0] for topic, log in zip(EACH, logs, strict=True)]
    assert await table.apply(group(*members)) == [Outcome.APPLIED] * 3
    assert table.stats.unknown_applied == (3 if "unheard" in luck else 0)
    assert (table.stats.applied, table.stats.skipped) == (150, 0)
    assert await backend.rows(tag) == truth(*logs)


async def test_what_another_writer_applied_meanwhile_is_skipped_and_the_rest_counts_once(
    make: MakeTable, backend: Backend, tag: bytes
) -> None:
    mine, other = make("a"), make("b")
    clicks, browses = records(CLICKS, 100), records(BROWSES, 50)
    (first, second), (browse,) = chunks(CLICKS, clicks), chunks(BROWSES, browses)
    await apply_one(mine, first, change(first.records))
    await apply_one(other, browse, change(browse.records))
    assert await mine.apply(group(second, browse)) == [Outcome.APPLIED, Outcome.SKIPPED]
    assert mine.stats.conflicts == 1
    assert await backend.rows(tag) == truth(clicks, browses)


@pytest.mark.parametrize("seed", range(3))
async def test_writers_that_race_with_groups_of_their_own_cut_give_exact_rows(
    make: MakeTable, backend: Backend, tag: bytes, seed: int
) -> None:
    logs = {topic: records(topic, 300, seed=seed) for topic in EACH}

    async def run(table: UserTable, random: Random) -> None:
        left = {topic: chunks(topic, log, random.randint(10, 60)) for topic, log in logs.items()}
        while any(left.values()):
            waiting = [topic for topic in EACH if left[topic]]
            chosen = random.sample(waiting, random.randint(1, len(waiting)))
            verdicts = await table.apply(group(*[left[topic][0] for topic in chosen]))
            for topic, verdict in zip(chosen, verdicts, strict=True):
                assert verdict in {Outcome.APPLIED, Outcome.SKIPPED}
                left[topic].pop(0)

    luck = ["fine", "lost", "unheard", "fine", "unheard"] if seed else []
    tables = [make("a"), make("b", store=Watched(backend.store, *luck))]
    await asyncio.gather(*[run(table, Random(f"{seed} {i}")) for i, table in enumerate(tables)])
    assert await backend.rows(tag) == truth(*logs.values())
    # Who applied what lies under a lost reply and another writer's step is not to be told.
    assert luck or sum(table.stats.applied for table in tables) == 900
