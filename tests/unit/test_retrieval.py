"""Lists of candidates: merged in turns, own counts and neighbours as a slow reader of the log would find them."""

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model_server.preparation import Preparation
from model_server.retrieval.merge import Turns, distinct, merge, nearness
from model_server.retrieval.neighbours import Mapped, Neighbours
from model_server.retrieval.pairs import Pairs, sorting, summed
from model_server.retrieval.retriever import Quotas
from model_server.training.asof import Replay
from model_server.training.neighbours import NeighbourLimits, build_neighbours
from model_server.training.requests import Moments, moments, target_kinds
from streams.features import features_file
from streams.features.declaration import DEFAULT
from tests.shoplog import recorded


def i32(rows: list[list[int]]) -> NDArray[np.int32]:
    return np.array(rows, np.int32)


def test_lists_take_turns_by_rank_and_the_fill_comes_last() -> None:
    turns = Turns([2, 3], 4)
    merged = merge(i32([[7, 8, 9, 7, 5, 1, 2, 3, 4]]), turns, 6)
    assert merged.item.tolist() == [[7, 9, 8, 5, 1, 2]]


def test_every_list_leaves_its_rank_on_a_candidate() -> None:
    turns = Turns([2, 3], 4)
    merged = merge(i32([[7, 8, 9, 7, 5, 1, 8, 3, 4]]), turns, 6)
    near = dict(zip(merged.item[0].tolist(), merged.near[0].tolist(), strict=True))
    one, two = nearness(np.array([0, 1])).tolist()
    assert near[7] == [one, two, 0.0]
    assert near[8] == [two, 0.0, two]
    assert near[1] == [0.0, 0.0, one]


def test_a_user_with_few_lists_gets_padding() -> None:
    turns = Turns([2, 2], 2)
    merged = merge(i32([[7, -1, -1, -1, -1, -1], [1, 2, 3, 4, 5, 6]]), turns, 4)
    assert merged.item.tolist() == [[7, -1, -1, -1], [1, 3, 2, 4]]
    assert merged.near[0, 1:].sum() == 0


def test_of_two_places_in_one_list_the_better_counts() -> None:
    turns = Turns([3], 1)
    merged = merge(i32([[4, 5, 4, -1]]), turns, 3)
    assert merged.near[0, 0, 0] == nearness(np.array([0]))[0]


def test_of_pairs_that_repeat_the_sums_are_known() -> None:
    user, item = np.array([0, 1, 0]), i32([[3, 2, 3]])[0]
    pairs = summed(user, item, 10, {"n": np.array([1, 2, 4], np.float32)}, {"most": np.array([1, 2, 4], np.float32)})
    assert (pairs.user.tolist(), pairs.column.tolist()) == ([0, 1], [3, 2])
    assert (pairs.values["n"].tolist(), pairs.values["most"].tolist()) == ([5, 2], [4, 2])
    assert pairs.top(2, pairs.values["n"], 2).tolist() == [[3, -1], [2, -1]]


@given(
    st.dictionaries(st.integers(0, 59), st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0]), max_size=60), st.integers(1, 12)
)
def test_the_best_of_a_user_are_those_of_a_full_sort_at_ties_too(known: dict[int, float], count: int) -> None:
    key = np.array(sorted(known), np.int64)
    pairs = Pairs(key // 15, key % 15, {"n": np.array([known[at] for at in key.tolist()], np.float32)})
    for user, top in enumerate(pairs.top(4, pairs.values["n"], count).tolist()):
        mine = sorted((-score, at % 15) for at, score in known.items() if at // 15 == user)
        assert [item for item in top if item >= 0] == [item for _, item in mine[:count]]


@given(st.lists(st.integers(0, 3) | st.integers(0, 2**62), max_size=40))
def test_keys_are_sorted_as_a_stable_sort_does(keys: list[int]) -> None:
    key = np.array(keys, np.int64)
    assert sorting(key).tolist() == np.argsort(key, kind="stable").tolist()


def test_no_pairs_make_no_list() -> None:
    assert Pairs.none("n").top(2, np.empty(0, np.float32), 2).tolist() == [[-1, -1], [-1, -1]]


@given(st.lists(st.lists(st.integers(-1, 6), min_size=7, max_size=7), min_size=1, max_size=4), st.integers(1, 9))
def test_distinct_items_stand_in_their_order(rows: list[list[int]], count: int) -> None:
    for row, found in zip(rows, distinct(i32(rows), count).tolist(), strict=True):
        wanted = list(dict.fromkeys(item for item in row if item >= 0))[:count]
        assert found == wanted + [-1] * (count - len(wanted))


class Walked:
    """The small log replayed up to its last requests."""

    def __init__(self) -> None:
        self.log = recorded()
        self.moments: Moments = moments(self.log, DEFAULT, target_kinds(self.log, DEFAULT, ("click",)))
        self.preparation = Preparation(DEFAULT, np.empty(0, np.uint64), Neighbours.none())
        self.replay = Replay(
            self.log, DEFAULT, self.preparation, neighbours_every_ms=2**60, refresh_ms=0, profiles_ms=0
        )
        self.requests = np.arange(len(self.moments) - 40, len(self.moments))
        self.batch = self.replay.take(self.moments, self.requests)

    def before(self, request: int) -> NDArray[np.intp]:
        """Events strictly before a request."""
        return np.flatnonzero(self.log.columns.ts_ms < self.moments.ts_ms[request])

    def named(self, name: str) -> NDArray[np.float32]:
        return self.batch.counters[..., self.preparation.counters.names.index(name)]


@pytest.fixture(scope="module")
def walked() -> Walked:
    return Walked()


def test_a_new_window_leaves_the_lists_of_the_others_as_wide_as_they_were() -> None:
    before = Quotas().of_windows(DEFAULT)
    assert Quotas().of_windows(features_file.merge(DEFAULT, {"windows": {"3h": "3h"}})) == {**before, "3h": 20}


def test_own_counts_are_those_of_the_log_before_the_request(walked: Walked) -> None:
    for place, request in enumerate(walked.requests.tolist()):
        before = walked.before(request)
        mine = before[walked.log.user[before] == walked.moments.user[request]]
        counts = Counter(walked.log.item[mine].tolist())
        expected = [
            np.log1p(np.float32(counts[item])) if item >= 0 else 0.0 for item in walked.batch.item[place].tolist()
        ]
        np.testing.assert_allclose(walked.named("own_n")[place], expected, rtol=1e-6)


def test_item_counts_are_those_of_the_log_before_the_request(walked: Walked) -> None:
    for place, request in enumerate(walked.requests.tolist()):
        counts = Counter(walked.log.item[walked.before(request)].tolist())
        expected = [np.log1p(counts[item]) if item >= 0 else 0.0 for item in walked.batch.item[place].tolist()]
        np.testing.assert_allclose(walked.named("item_all")[place], expected, rtol=1e-6)


def test_the_first_candidate_is_the_users_newest_item(walked: Walked) -> None:
    for place, request in enumerate(walked.requests.tolist()):
        before = walked.before(request)
        mine = before[walked.log.user[before] == walked.moments.user[request]]
        newest = walked.log.columns.ts_ms[mine] // 1000 == (walked.log.columns.ts_ms[mine] // 1000).max()
        assert walked.batch.item[place, 0] in walked.log.item[mine[newest]]


def test_of_items_the_user_had_equally_often_the_popular_one_comes_first(walked: Walked) -> None:
    """A place in a list hides that counts are equal: what decides among them decides the ranking."""
    names, checked = walked.replay.preparation.retriever.names, 0
    for row in range(len(walked.batch.item)):
        near = walked.batch.near[row, :, names.index("own often")]
        order = np.argsort(-near)[: (near > 0).sum()]
        own, events = walked.named("own_n")[row, order], walked.named("item_30d")[row, order]
        assert (np.diff(own) <= 0).all()
        equal = np.diff(own) == 0
        checked += int((np.diff(events)[equal] < 0).sum())
        assert (np.diff(events)[equal] <= 1e-6).all()
    assert checked > 20


def test_no_item_is_proposed_before_anybody_saw_it(walked: Walked) -> None:
    for place, request in enumerate(walked.requests.tolist()):
        seen = set(walked.log.item[walked.before(request)].tolist())
        assert set(walked.batch.item[place].tolist()) - {-1} <= seen


def test_every_seen_item_is_proposed_while_there_is_room(walked: Walked) -> None:
    seen = set(walked.log.item[walked.before(int(walked.requests[0]))].tolist())
    assert len(seen) < Quotas().candidates
    assert set(walked.batch.item[0].tolist()) - {-1} == seen


def test_neighbours_are_those_a_slow_count_finds() -> None:
    log = recorded(3, users=8, items=12, events=400)
    limits = NeighbourLimits(neighbours=12)
    built = build_neighbours(log.codes, log.columns.ts_ms, log.user, log.item, limits)
    sessions: list[list[int]] = []
    last: dict[int, int] = {}
    open_of: dict[int, list[int]] = {}
    for user, item, ts_ms in zip(log.user.tolist(), log.item.tolist(), log.columns.ts_ms.tolist(), strict=True):
        if user not in last or ts_ms - last[user] > limits.gap_ms:
            open_of[user] = []
            sessions.append(open_of[user])
        open_of[user].append(item)
        last[user] = ts_ms
    together: dict[tuple[int, int], int] = defaultdict(int)
    follows: dict[tuple[int, int], int] = defaultdict(int)
    size: Counter[int] = Counter()
    for session in sessions:
        distinct = set(session)
        if len(distinct) > 1:
            size.update(distinct)
            for a in distinct:
                for b in distinct - {a}:
                    together[a, b] += 1
        for a, b in pairwise(session):
            if a != b:
                follows[a, b] += 1
    for item in range(len(log.codes)):
        found = dict(zip(built.together[item].tolist(), built.together_weight[item].tolist(), strict=True))
        expected = {b: n / np.sqrt(size[a] * size[b]) for (a, b), n in together.items() if a == item}
        assert {b for b in found if b >= 0} == set(expected)
        assert all(abs(found[b] - weight) < 2e-6 for b, weight in expected.items())
        after = {b: n for (a, b), n in follows.items() if a == item}
        found = dict(zip(built.next[item].tolist(), built.next_weight[item].tolist(), strict=True))
        assert all(abs(found[b] - n / sum(after.values())) < 2e-6 for b, n in after.items())


def test_items_of_like_sessions_are_found_without_those_nobody_saw() -> None:
    built = Neighbours(
        codes=np.arange(1, 6, dtype=np.uint64),
        together=np.full((5, 1), -1, np.int32),
        together_weight=np.zeros((5, 1), np.float32),
        next=np.full((5, 1), -1, np.int32),
        next_weight=np.zeros((5, 1), np.float32),
        visit_start=np.array([0, 2, 3, 4, 5, 5]),
        visit=np.array([0, 1, 0, 1, 1], np.int32),
        basket_start=np.array([0, 2, 5]),
        basket=np.array([0, 1, 0, 2, 3], np.int32),
        repeat=np.zeros(5, np.float32),
    )
    mapped = Mapped.of(built, np.array([10, 11, 12, -1, 14], np.int32), 20)
    alike = mapped.like_sessions(i32([[11, -1], [-1, -1]]))
    assert (alike.user.tolist(), alike.column.tolist()) == ([0, 0], [10, 11])
    assert alike.values["score"].tolist() == [1.0, 1.0]


def test_neighbours_of_nothing_are_none() -> None:
    empty = np.empty(0, np.int64)
    built = build_neighbours(np.empty(0, np.uint64), empty, empty, np.empty(0, np.int32))
    mapped = Mapped.of(built, np.empty(0, np.int32), 3)
    together, following = mapped.covisited(i32([[0, 1]]))
    assert all(len(pairs.user) == 0 for pairs in (together, following, mapped.like_sessions(i32([[0, 1]]))))
