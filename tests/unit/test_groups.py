"""Sorting events by the row they belong to, and grouping them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.features.groups import Groups, sorting
from streams.features.rows import ENTRY

EVENTS = st.lists(st.tuples(st.sampled_from([0, 1, 7, 70_000]), st.integers(0, 3), st.integers(0, 3)), max_size=30)


@given(EVENTS)
def test_sorting_is_by_slot_then_key_then_item(events: list[tuple[int, int, int]]) -> None:
    slot = np.array([slot for slot, _, _ in events], np.int64)
    entry = np.array([(key, item) for _, key, item in events], ENTRY)
    assert sorting(slot, entry).tolist() == np.lexsort((entry["item"], entry["key"], slot)).tolist()


@given(EVENTS)
def test_groups_hold_every_event_of_their_row(events: list[tuple[int, int, int]]) -> None:
    slot = np.array([slot for slot, _, _ in events], np.int64)
    groups = Groups.of(np.argsort(slot, kind="stable"), slot)
    assert groups.slots.tolist() == sorted(set(slot.tolist()))
    assert groups.slots[groups.group].tolist() == slot[groups.order].tolist()
    assert groups.counts.tolist() == [slot.tolist().count(user) for user in groups.slots.tolist()]
