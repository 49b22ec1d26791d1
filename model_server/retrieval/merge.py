"""Merge ranked lists into at most C distinct candidates a user, round robin by rank, keeping the rank in each list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from model_server.retrieval.pairs import F32, I32, I64


class Candidates(NamedTuple):
    """item i32[B, C], -1 past the end; near f32[B, C, L]: 1 / (1 + rank / 5) in each list, 0 where it is not."""

    item: I32
    near: F32


def nearness(rank: I64) -> F32:
    """1 / (1 + rank / 5): what a place in a list is worth, whatever the other candidates are."""
    return (1.0 / (1.0 + rank / 5.0)).astype(np.float32)


class Turns:
    """The order in which places of the lists are asked: place 0 of each list, then place 1, and at last the fill."""

    def __init__(self, widths: Sequence[int], fill: int) -> None:
        places = [np.arange(width) for width in (*widths, fill)]
        self.of_list = np.repeat(np.arange(len(places)), [len(p) for p in places])
        self.place = np.concatenate(places)
        late = self.of_list == len(widths)
        self.order = np.lexsort((self.of_list, self.place, late))
        self.list = self.of_list[self.order]
        self.near = nearness(self.place[self.order])
        self.lists = len(places)


def merge(lists: Sequence[I32], turns: Turns, count: int) -> Candidates:
    """`lists`: i32[B, width] each, best first, -1 for nothing, the fill last; widths as `turns` was built for."""
    entry = np.concatenate(lists, axis=1)[:, turns.order]
    users = len(entry)
    by_item = np.argsort(entry, axis=1, kind="stable")
    ordered = np.take_along_axis(entry, by_item, 1)
    first = np.ones(ordered.shape, np.bool_)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=first[:, 1:])
    leader = np.maximum.accumulate(np.where(first, np.arange(entry.shape[1]), 0), axis=1)
    first &= ordered >= 0
    chosen = np.zeros(entry.shape, np.bool_)
    np.put_along_axis(chosen, by_item, first, 1)
    slot = np.cumsum(chosen, axis=1) - 1
    width = min(count, entry.shape[1])
    kept = chosen & (slot < width)
    item = np.full((users, width), -1, np.int32)
    user, column = np.nonzero(kept)
    item[user, slot[user, column]] = entry[user, column]
    slot_of = np.take_along_axis(np.take_along_axis(np.where(kept, slot, width), by_item, 1), leader, 1)
    near = np.zeros((users, width + 1, turns.lists), np.float32)
    # Written from the last turn to the first: where a list names an item twice, the better place stays.
    back = by_item[:, ::-1]
    target = np.where(ordered >= 0, slot_of, width)[:, ::-1]
    near[np.arange(users)[:, None], target, turns.list[back]] = turns.near[back]
    return Candidates(item, near[:, :width])
