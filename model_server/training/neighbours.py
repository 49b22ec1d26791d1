"""Builds the co-visited items, the following items and the session index from what happened before a moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from model_server.retrieval.neighbours import Neighbours
from model_server.retrieval.pairs import F32, I32, I64

DAY_MS = 86_400_000
WEIGHT_BITS, COLUMN_BITS = 20, 22
WEIGHT_ONE = 2**WEIGHT_BITS - 1
"""A weight of one as a packed number; rows and columns are items, at most 2^21 and 2^22 of them."""


@dataclass(frozen=True)
class NeighbourLimits:
    """Bounds of what is kept: neighbours an item, items a session, sessions an item, and how far back it looks."""

    neighbours: int = 40
    basket: int = 60
    visits: int = 200
    gap_ms: int = 1_800_000
    span_ms: int = 180 * DAY_MS


def build_neighbours(
    codes: NDArray[np.uint64], ts_ms: I64, user: I64, item: I32, limits: NeighbourLimits | None = None
) -> Neighbours:
    """Neighbours of all M = len(codes) items from E actions in time order."""
    limits = limits or NeighbourLimits()
    repeat = _repeat_share(user, item, len(codes))
    recent = slice(int(np.searchsorted(ts_ms, ts_ms[-1] - limits.span_ms)) if len(ts_ms) else 0, None)
    ts_ms, user, item = ts_ms[recent], user[recent], item[recent]
    session, order = _sessions(ts_ms, user, limits.gap_ms)
    item = item[order]
    baskets = _baskets(session, item, ts_ms[order], len(codes), limits)
    together, together_weight = _together(baskets, limits)
    following, following_weight = _following(session, item, len(codes), limits)
    visits = _latest(csr_array(baskets.T), limits.visits)
    return Neighbours(
        codes=codes,
        together=together,
        together_weight=together_weight,
        next=following,
        next_weight=following_weight,
        visit_start=visits.indptr.astype(np.int64),
        visit=visits.indices.astype(np.int32),
        basket_start=baskets.indptr.astype(np.int64),
        basket=baskets.indices.astype(np.int32),
        repeat=repeat,
    )


def _repeat_share(user: I64, item: I32, items: int) -> F32:
    """Share of each item's events that are not the first one of their user with it."""
    pair = np.sort(user * items + item)
    firsts = np.bincount(pair[np.diff(pair, prepend=-1) > 0] % max(items, 1), minlength=items)
    events = np.bincount(item, minlength=items)
    return ((events - firsts) / np.maximum(events, 1)).astype(np.float32)


def _sessions(ts_ms: I64, user: I64, gap_ms: int) -> tuple[I64, I64]:
    """(session of each event, order): events by user and time, cut where a gap is too long."""
    order = np.lexsort((ts_ms, user))
    same = (user[order][1:] == user[order][:-1]) & (np.diff(ts_ms[order]) <= gap_ms)
    return np.concatenate(([0], np.cumsum(~same))) if len(order) else np.empty(0, np.int64), order


def _baskets(session: I64, item: I32, ts_ms: I64, items: int, limits: NeighbourLimits) -> csr_array:
    """Distinct items (the last ones) of each session of two or more, oldest session first: [S, M] of ones."""
    if len(session) == 0:
        return csr_array((0, items), dtype=np.float32)
    # The last event of each (session, item), numbered from the session's end.
    key = session * items + item
    _, last = np.unique(key[::-1], return_index=True)
    last = np.sort(len(key) - 1 - last)
    session, item, ts_ms = session[last], item[last], ts_ms[last]
    ends = np.searchsorted(session, session, side="right")
    size = ends - np.searchsorted(session, session)
    kept = (size > 1) & (ends - np.arange(len(session)) <= limits.basket)
    session, item, ts_ms = session[kept], item[kept], ts_ms[kept]
    if len(session) == 0:
        return csr_array((0, items), dtype=np.float32)
    distinct, number = np.unique(session, return_inverse=True)
    ended = np.zeros(len(distinct), np.int64)
    np.maximum.at(ended, number, ts_ms)
    rank = np.empty(len(distinct), np.int64)
    rank[np.argsort(ended, kind="stable")] = np.arange(len(distinct))
    return csr_array((np.ones(len(item), np.float32), (rank[number], item)), shape=(len(distinct), items))


def _together(baskets: csr_array, limits: NeighbourLimits) -> tuple[I32, F32]:
    """Neighbours by shared sessions over the root of both items' sessions (cosine)."""
    shared = csr_array(baskets.T @ baskets)
    count = np.asarray(baskets.sum(0)).reshape(-1)
    row = np.repeat(np.arange(shared.shape[0]), np.diff(shared.indptr))
    apart = row != shared.indices
    row, column, n = row[apart], shared.indices[apart], shared.data[apart]
    return _top_rows(row, column, n / np.sqrt(count[row] * count[column]), baskets.shape[1], limits.neighbours)


def _following(session: I64, item: I32, items: int, limits: NeighbourLimits) -> tuple[I32, F32]:
    """Neighbours by how often they came right after, as a share of what came right after."""
    follows = (session[1:] == session[:-1]) & (item[1:] != item[:-1])
    key, n = np.unique(item[:-1][follows].astype(np.int64) * items + item[1:][follows], return_counts=True)
    row, column = key // max(items, 1), key % max(items, 1)
    total = np.bincount(row, n, items)
    return _top_rows(row, column, n / np.maximum(total[row], 1), items, limits.neighbours)


def _top_rows(row: I64, column: I64, weight: NDArray[np.floating], rows: int, count: int) -> tuple[I32, F32]:
    """The `count` largest weights (in 0..1) of each row, larger first, at equal weight the smaller column."""
    neighbour = np.full((rows, count), -1, np.int32)
    weights = np.zeros((rows, count), np.float32)
    # One sort of packed numbers (row, weight falling, column) is many times faster than a sort by three keys.
    falling = (WEIGHT_ONE - np.rint(weight * WEIGHT_ONE)).astype(np.int64)
    packed = np.sort((row << WEIGHT_BITS | falling) << COLUMN_BITS | column)
    row, column = packed >> (WEIGHT_BITS + COLUMN_BITS), packed & (2**COLUMN_BITS - 1)
    place = np.arange(len(row)) - np.searchsorted(row, np.arange(rows))[row]
    kept = place < count
    row, column, place = row[kept], column[kept], place[kept]
    neighbour[row, place] = column
    weights[row, place] = 1 - (packed[kept] >> COLUMN_BITS & WEIGHT_ONE).astype(np.float32) / WEIGHT_ONE
    return neighbour, weights


def _latest(visits: csr_array, count: int) -> csr_array:
    """The `count` newest (largest) sessions of each item."""
    visits.sort_indices()
    ends = np.repeat(visits.indptr[1:], np.diff(visits.indptr))
    kept = ends - np.arange(visits.nnz) <= count
    row = np.repeat(np.arange(visits.shape[0]), np.diff(visits.indptr))[kept]
    return csr_array((visits.data[kept], (row, visits.indices[kept])), shape=visits.shape)
