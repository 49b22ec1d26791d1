"""Whatever befalls a worker at any step, and however it is handed the log: the rows are those of the events."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.topics import KINDS
from streams.deltas import DeltaRecord
from streams.pipeline import Pipeline
from streams.tables.attempt import Verdict, nothing_stale
from streams.tables.errors import Rewind
from streams.tables.memory import MemoryStore
from streams.tables.part import Chunk
from streams.tables.store import Move, UserWrite
from streams.testing import (
    Delivery,
    Draft,
    Fault,
    Harness,
    browse,
    click,
    differences,
    event,
    every_delivery,
    every_fault,
    feedback,
    item,
    late,
    no_item,
    poison,
    purchase,
    shuffled,
    wrong_rows,
)
from streams.testing.endings import every_cut
from streams.testing.worker import Stuck, Worker

ONE_PARTITION = partial(Harness, partitions=1, item_partitions=2)


def day(kairos: Harness) -> None:
    """A little of everything."""
    kairos.publish(item("i1", title="Red shoes"), item("i2"))
    kairos.play(click("ann", "i1", at="+0s", device="phone"), click("ann", "i2", at="+5min"))
    kairos.publish(poison()["bad JSON"], browse("ann", "i1", at="-3h"), browse("bob", "i3"), no_item("i2"))
    kairos.publish(purchase("ann", "i1", price=9.5), feedback("opened", "bob", "i1"), poison()["null value"])
    kairos.run()
    kairos.advance("1h")
    kairos.publish(click("bob", "i1"), click("ann", "i1", at="-10min"))
    kairos.run()


def hour(kairos: Harness) -> None:
    """Two chunks of two users."""
    kairos.play(click("ann", "i1", at="+0s"))
    kairos.publish(click("bob", "i1"), click("ann", "i2"))
    kairos.run()


def test_no_fault_at_any_step_moves_a_row() -> None:
    endings = list(every_fault(day, partial(Harness, partitions=2, item_partitions=2)))
    assert len(endings) > 50
    assert differences(endings) == {}
    assert {ending.name: found for ending in endings if (found := wrong_rows(ending.harness))} == {}
    assert {fault.value for fault in Fault} == {
        fault.value for fault in Fault for ending in endings if ending.name.startswith(fault.value)
    }


def test_no_cut_of_the_log_no_second_reading_and_no_hole_moves_a_row() -> None:
    endings = list(every_delivery(day, ONE_PARTITION))
    assert len(endings) > 30
    assert differences(endings) == {}
    assert any(ending.harness.worker.users.stats.rewinds for ending in endings)
    assert any(ending.harness.worker.users.stats.skipped for ending in endings)


def test_a_zombie_s_deltas_come_twice_and_count_once() -> None:
    calm, struck = ONE_PARTITION(), ONE_PARTITION(faults={0: Fault.TAKEN_OVER})
    for kairos in (calm, struck):
        hour(kairos)
    assert struck.steps.taken[0] == "deltas"
    assert len(struck.deltas) > len(calm.deltas)
    assert struck.worker.items.deltas["repeated"] > 0
    assert wrong_rows(struck) == {}


def test_who_was_overtaken_by_a_record_folds_the_rest() -> None:
    kairos = ONE_PARTITION(faults={1: Fault.OVERTAKEN})
    kairos.publish(click("ann", "i1"), click("ann", "i2"), click("bob", "i2"))
    kairos.run()
    stats = kairos.worker.users.stats
    assert (kairos.steps.taken[1], stats.conflicts, stats.skipped, stats.applied) == ("commit", 1, 1, 2)
    assert wrong_rows(kairos) == {}


class Careless(MemoryStore):
    """A store that commits whatever the token."""

    async def commit(self, tag: bytes, move: Move, write: Any) -> bool:
        kept = self.tag(tag)
        steps = [step._replace(seen_offset=_number(kept.meta.get(f"o:{step.topic}".encode()))) for step in move.steps]
        return await super().commit(tag, Move(kept.meta.get(b"ver", b""), move.ver, steps), write)


def _number(text: bytes | None) -> int | None:
    return None if text is None else int(text)


class Torn(MemoryStore):
    """A store that may lose the rows of a write whose fence it keeps."""

    async def commit(self, tag: bytes, move: Move, write: Any) -> bool:
        torn = isinstance(write, UserWrite) and len(write.users) > 1
        return await super().commit(tag, move, UserWrite() if torn else write)


def test_a_store_that_does_not_compare_is_found_out() -> None:
    found = differences(every_fault(hour, lambda **how: ONE_PARTITION(store=Careless(), **how)))
    assert found
    assert all(name.startswith((Fault.TAKEN_OVER.value, Fault.OVERTAKEN.value)) for name in found)
    assert any("user ann: differs in" in line and "totals" in line for lines in found.values() for line in lines)


def test_a_store_that_tears_rows_from_fences_is_found_out_by_the_cut() -> None:
    assert differences(every_delivery(hour, lambda **how: ONE_PARTITION(store=Torn(), **how)))


class Hasty(Pipeline):
    """A pipeline that moves the fence before the deltas leave."""

    async def process(self, chunks: Sequence[Chunk], stale: Any = nothing_stale) -> list[Verdict]:
        held: list[DeltaRecord] = []
        topic, self.deltas = self.deltas, Held(held)
        try:
            verdicts = await super().process(chunks, stale)
        finally:
            self.deltas = topic
        if held:
            await self.deltas.send(held)
        return verdicts


class Held:
    def __init__(self, held: list[DeltaRecord]) -> None:
        self.held = held

    async def send(self, records: Sequence[DeltaRecord]) -> None:
        self.held.extend(records)


def test_deltas_that_leave_after_the_fence_are_found_out() -> None:
    def hasty(**how: Any) -> Harness:
        kairos = ONE_PARTITION(**how)
        kairos.worker.pipeline.__class__ = Hasty
        return kairos

    found = differences(every_fault(hour, hasty))
    assert found
    assert all(line.startswith("item ") for lines in found.values() for line in lines)


def test_a_bad_record_that_is_nowhere_is_wrong() -> None:
    kairos = Harness()
    kairos.publish(poison()["bad JSON"], poison()["missing item"])
    assert {name.split()[0] for name in wrong_rows(kairos)} == {"record"}
    kairos.run()
    assert wrong_rows(kairos) == {}
    kairos.world.letters.sent.pop()
    assert len(wrong_rows(kairos)) == 1


class Stubborn(Pipeline):
    """A pipeline that wants everything again."""

    async def process(self, chunks: Sequence[Chunk], stale: Any = nothing_stale) -> list[Verdict]:
        return [Rewind(chunk.topic, chunk.partition, 0, "once more") for chunk in chunks]


def test_a_partition_that_is_read_over_and_over_is_given_up() -> None:
    kairos = ONE_PARTITION()
    kairos.worker.pipeline.__class__ = Stubborn
    with pytest.raises(Stuck, match=r"Partition 0 of events\.clicks\.v1 and its neighbours, with 1 records"):
        kairos.play(click("ann", "i1"))


def test_a_lost_and_a_doubled_event_are_told_by_field() -> None:
    kairos = Harness(partitions=1)
    kairos.play(click("ann", "i1", at="+0s"), click("bob", "i1"))
    kairos.publish(click("ann", "i1"))
    wrong = wrong_rows(kairos)
    assert wrong["user ann"]["totals"] == ([2, *[0] * 11], [1, *[0] * 11])
    assert wrong["item i1"]["totals"] == ([3, 0, 0, 0], [2, 0, 0, 0])
    kairos.publish(click("cat", "i9"))
    assert "row" in wrong_rows(kairos)["user cat"]
    kairos.run()
    assert wrong_rows(kairos) == {}
    kairos.tables.user_tags()[0].users[b"dan"] = next(iter(kairos.tables.user_tags()[0].users.values()))
    assert wrong_rows(kairos) == {"user dan": {"row": (None, "stored")}}


def drafts() -> st.SearchStrategy[list[Draft]]:
    words = sorted(frozenset[str]().union(*KINDS.values()))
    one = st.builds(
        event,
        st.sampled_from(words),
        st.sampled_from(["ann", "bob", "乙"]),
        st.sampled_from(["i1", "i2", "i3"]),
        at=st.integers(0, 40 * 24 * 60).map(lambda minutes: f"-{minutes}min"),
        device=st.sampled_from(["phone", "desktop", None]),
        price=st.integers(0, 1000).map(lambda cents: cents / 100),
    )
    return st.lists(one, min_size=1, max_size=25)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    drafts(),
    st.randoms(use_true_random=False),
    st.dictionaries(st.integers(0, 30), st.sampled_from(Fault), max_size=6),
    st.builds(
        Delivery,
        st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
        again=st.integers(0, 3),
        times=st.integers(1, 2),
        early=st.booleans(),
        together=st.booleans(),
    ),
)
def test_rows_are_those_of_the_events_in_any_order_under_any_faults(
    events: list[Draft], random: Random, faults: dict[int, Fault], delivery: Delivery
) -> None:
    calm, other = Harness(partitions=2), Harness(partitions=2, faults=faults, delivery=delivery)
    calm.publish(*events)
    calm.run()
    mixed = late(shuffled(events, random), random)
    for part in (mixed[::2], mixed[1::2]):
        other.publish(*part)
        other.run()
    assert other.rows == calm.rows
    assert wrong_rows(other) == {}


def test_shuffling_and_holding_back_keep_everything() -> None:
    random = Random(3)
    assert sorted(shuffled(range(50), random)) == sorted(late(range(50), random)) == list(range(50))
    assert late(range(50), random) != list(range(50))


def test_all_cuts_are_all_cuts() -> None:
    assert sorted(every_cut(3)) == [(1, 1, 1), (1, 2), (2, 1), (3,)]
    assert [len(list(every_cut(n))) for n in (1, 2, 6)] == [1, 2, 32]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_store_that_is_rolled_back_is_filled_again(restarted: bool) -> None:
    kairos, calm = ONE_PARTITION(), ONE_PARTITION()
    hour(calm)
    kairos.play(click("ann", "i1", at="+0s"))
    saved = kairos.save()
    kairos.publish(click("bob", "i1"), click("ann", "i2"))
    kairos.run()
    whole = kairos.rows
    for _ in range(2):
        kairos.restore(saved)
        assert wrong_rows(kairos).keys() == {"user ann", "user bob", "item i1", "item i2"}
        if restarted:
            kairos.restart()
        kairos.run()
        assert kairos.rows == whole == calm.rows
    assert kairos.state == calm.state


def test_each_worker_begins_where_the_last_one_stopped() -> None:
    kairos = Harness(partitions=1)
    kairos.play(click("ann", "i1", at="+0s"))
    first = kairos.worker
    kairos.restart()
    kairos.play(click("ann", "i1", at="+1min"))
    assert isinstance(kairos.worker, Worker)
    assert kairos.worker is not first
    assert (kairos.worker.users.stats.applied, kairos.worker.users.stats.skipped) == (1, 0)
    assert wrong_rows(kairos) == {}
