"""Merge ranked lists into at most C distinct candidates a user, round robin by rank, keeping the rank in each list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from model_server.retrieval.pairs import F32, I32, I64, Bools


class Candidates(NamedTuple):
    """item i32[B, C], -1 past the end; near f32[B, C, L]: 1 / (1 + rank / 5) in each list, 0 where it is not."""

    item: I32
    near: F32


def nearness(rank: I64) -> F32:
    """1 / (1 + rank / 5): what a place in a list is worth, whatever the other candidates are."""
    return (1.0 / (1.0 + rank / 5.0)).astype(np.float32)


class Turns:
    """The order in which places of the lists are asked: place 0 of each list, then place 1, and at last the fill.

    turn i64[W]: of each place of all lists side by side; list i64[W], near f32[W]: of each turn.
    """

    def __init__(self, widths: Sequence[int], fill: int) -> None:
        places = [np.arange(width) for width in (*widths, fill)]
        of_list, place = np.repeat(np.arange(len(places)), [len(p) for p in places]), np.concatenate(places)
        order = np.lexsort((of_list, place, of_list == len(widths)))
        self.turn = np.argsort(order)
        self.list = of_list[order]
        self.near = nearness(place[order])
        self.lists = len(places)


def merge(lists: I32, turns: Turns, count: int) -> Candidates:
    """`lists` i32[B, W]: all lists side by side as `turns` has them, each best first, -1 for nothing, the fill last."""
    (users, places), width = lists.shape, min(count, lists.shape[1])
    item, turn, first = (part.reshape(-1) for part in by_item(lists, turns.turn))
    lead = np.flatnonzero(first)
    user, asked = lead // places, turn[lead] + lead // places * places
    leads = np.zeros(users * places, np.bool_)
    leads[asked] = True
    slots = np.cumsum(leads.reshape(users, places), axis=1, dtype=np.int32) - 1
    cell = user * (width + 1) + np.minimum(slots.reshape(-1)[asked], width)
    found = np.full((users, width + 1), -1, np.int32)
    found.reshape(-1)[cell] = item[lead]
    near = np.zeros((users, width + 1, turns.lists), np.float32)
    # Written from the last turn to the first: where a list names an item twice, the better place stays.
    entry = np.flatnonzero(item >= 0)[::-1]
    turn, cell = turn[entry], cell[np.cumsum(first)[entry] - 1]
    near.reshape(-1)[cell * turns.lists + turns.list[turn]] = turns.near[turn]
    return Candidates(found[:, :width], near[:, :width])


def by_item(entry: I32, place: I64) -> tuple[I64, I64, Bools]:
    """(item, place, first) [B, W]: each row of `entry` sorted by item, then by its place i64[W], all of them distinct.

    `first`: where another item than before begins; nothing, -1, is none. Item and place are sorted as one word.
    """
    bits = entry.shape[1].bit_length()
    packed = np.sort((entry.astype(np.int64) << bits) | place, axis=1)
    item = packed >> bits
    first = item >= 0
    first[:, 1:] &= item[:, 1:] != item[:, :-1]
    packed &= (1 << bits) - 1
    return item, packed, first


def distinct(entry: I32, count: int) -> I32:
    """The first `count` items of each row of i32[B, W], repeats left out, -1 past the end."""
    _, place, first = by_item(entry, np.arange(entry.shape[1]))
    row = np.arange(len(entry))[:, None]
    leads = np.zeros(entry.shape, np.bool_)
    leads[row, place] = first
    slot = np.cumsum(leads, axis=1) - 1
    found = np.full((len(entry), count), -1, np.int32)
    user, column = np.nonzero(leads & (slot < count))
    found[user, slot[user, column]] = entry[user, column]
    return found
