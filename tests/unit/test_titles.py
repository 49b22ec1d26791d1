"""Titles as vectors: exact products, read once, near ones found, cold items too, and the same live as in training."""

import dataclasses
from pathlib import Path

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from model_server.counters.names import TITLES as COUNTERS
from model_server.counters.titles import title_counters
from model_server.items import ItemArrays
from model_server.preparation import Freshness, Preparation, look_now
from model_server.retrieval.neighbours import Neighbours
from model_server.retrieval.titles import ASKING, FEW, TITLES, YOUNG_MS, TitleVectors, greatest_of, is_new, like_titles
from model_server.text.at_hand import LiveTitles, RecordedTitles
from model_server.text.projection import GRID, Projection, fitted
from model_server.training.asof import Replay
from model_server.training.recorded import Recorded, record
from model_server.training.requests import moments, target_kinds
from streams.features.declaration import DEFAULT
from streams.features.items import ItemLayout
from streams.features.view import user_view
from tests.shoplog import START_MS, raw_events, recorded
from tests.titled import NAME, library, title, titles_of

ANY = {"neighbours_every_ms": 2**60, "refresh_ms": 0, "profiles_ms": 0}
F32 = NDArray[np.float32]


def drawn(items: int, width: int = 16, seed: int = 0) -> F32:
    """Vectors of so many items on the grid."""
    raw = np.random.default_rng(seed).normal(size=(items, 96)).astype(np.float32)
    return fitted("x", raw / np.linalg.norm(raw, axis=1, keepdims=True), width).of(raw)


@pytest.fixture(scope="module")
def log() -> Recorded:
    return recorded(5)


def test_a_projected_vector_is_a_unit_on_the_grid_and_nothing_stays_nothing() -> None:
    raw = np.vstack((np.zeros((1, 48), np.float32), np.random.default_rng(0).normal(size=(200, 48)).astype(np.float32)))
    made = fitted("x", raw, 16).of(raw)
    assert not made[0].any()
    np.testing.assert_array_equal(made * GRID, np.rint(made * GRID))
    np.testing.assert_allclose(np.linalg.norm(made[1:], axis=1), 1, atol=0.005)


def test_products_on_the_grid_are_exact_in_any_order() -> None:
    vectors = drawn(300, 64)
    exact = (vectors.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    assert (vectors @ vectors.T).tobytes() == exact.tobytes()
    order = np.random.default_rng(1).permutation(64)
    assert (vectors[:, order] @ vectors[:, order].T).tobytes() == exact.tobytes()
    ten = np.tile(vectors[:1], (10, 1)).sum(0)
    assert (vectors @ ten).tolist() == (vectors.astype(np.float64) @ ten.astype(np.float64)).tolist()


def test_the_projection_keeps_what_differs_most() -> None:
    rng = np.random.default_rng(2)
    raw = np.zeros((400, 48), np.float32)
    raw[:, :4], raw[:, 4:] = rng.normal(size=(400, 4)), 0.01 * rng.normal(size=(400, 44))
    few, all_of_them = (fitted("x", raw, width).of(raw) for width in (4, 48))
    np.testing.assert_allclose(few @ few.T, all_of_them @ all_of_them.T, atol=0.03)


def test_a_catalogue_of_one_has_nothing_to_compare() -> None:
    raw = np.ones((1, 48), np.float32) / np.sqrt(np.float32(48))
    made = fitted("x", raw, 16).of(raw)
    assert made.shape == (1, 16)
    recent = np.array([[0, -1, -1]], np.int32)
    found = like_titles(TitleVectors(made, None), recent, np.array([5]), [np.zeros(1, np.int32)], 25)
    assert (found == -1).all()
    assert not title_counters(made, recent, np.array([[0, -1]], np.int32), np.ones((1, 2), np.bool_)).any()


def test_no_items_at_all_are_an_answer() -> None:
    none, recent = np.zeros((0, 16), np.float32), np.full((2, 3), -1, np.int32)
    found = like_titles(TitleVectors(none, None), recent, np.array([5, 5]), [np.empty(0, np.int32)] * 2, 25)
    assert found.shape == (2, 25)
    assert (found == -1).all()
    candidates = np.full((2, 4), -1, np.int32)
    assert title_counters(none, recent, candidates, np.ones((2, 4), np.bool_)).shape == (2, 4, 3)


@pytest.mark.parametrize("items", [40, 9_000])
def test_the_nearest_are_those_of_a_full_sort(items: int) -> None:
    vectors, rng = drawn(items), np.random.default_rng(3)
    since_ms, now_ms = rng.integers(0, 10, items), np.full(70, 8)
    recent = rng.integers(0, items, (70, 12)).astype(np.int32)
    recent[0], recent[1, 1:] = -1, -1
    mine, others = (np.sort(rng.choice(items, items * 4 // 5, replace=False)).astype(np.int32) for _ in range(2))
    found = like_titles(TitleVectors(vectors, since_ms), recent, now_ms, [mine] * 45 + [others] * 25, 25)
    for user in range(70):
        own = [item for item in recent[user, :ASKING].tolist() if item >= 0]
        score = sum((vectors @ vectors[item] for item in own), np.zeros(items, np.float32))
        able = [n for n in (mine, others)[user >= 45].tolist() if score[n] > 0 and n not in own and since_ms[n] < 8]
        able = sorted(able, key=lambda n: (-score[n], n))[:25]
        assert [item for item in found[user].tolist() if item >= 0] == able


def test_of_equals_the_smaller_item_comes_first_in_a_long_row_too() -> None:
    score = np.zeros(256 * 60, np.float32)
    score[[9_000, 5, 3_333, 14_000]] = 1
    assert greatest_of(score, 3).tolist() == [5, 3_333, 9_000]
    assert greatest_of(score, 25).tolist() == [5, 3_333, 9_000, 14_000]


def test_counters_are_the_cosines_with_others_whose_title_is_known() -> None:
    vectors = drawn(20)
    vectors[7] = 0
    recent, item = np.array([[3, 7, 5, -1]], np.int32), np.array([[3, 4, 7]], np.int32)
    greatest, mean, newest = title_counters(vectors, recent, item, np.ones((1, 3), np.bool_))[0].T
    cosine = vectors @ vectors.T
    assert greatest.tolist() == [cosine[3, 5], max(cosine[4, 3], cosine[4, 5]), 0]
    assert mean.tolist() == [cosine[3, 5], (cosine[4, 3] + cosine[4, 5]) / np.float32(2), 0]
    assert newest.tolist() == [0, cosine[4, 3], 0]


def test_titles_speak_for_what_is_new_only() -> None:
    totals, age_ms = np.array([0, FEW - 1, FEW, FEW - 1]), np.array([-1, 5, 5, YOUNG_MS])
    assert is_new(totals, age_ms).tolist() == [True, True, False, False]
    vectors, recent, item = drawn(20), np.array([[3, 5]], np.int32), np.array([[4, 6]], np.int32)
    counted = title_counters(vectors, recent, item, np.array([[True, False]]))
    assert counted[0, 0].all()
    assert not counted[0, 1].any()


def prepared(log: Recorded, titles: RecordedTitles | LiveTitles | None) -> Preparation:
    return Preparation(DEFAULT, np.sort(log.codes), Neighbours.none(), titles=titles)


def test_without_titles_there_are_neither_list_nor_counters(log: Recorded, tmp_path: Path) -> None:
    bare, titled = prepared(log, None), prepared(log, titles_of(log, tmp_path))
    assert set(titled.retriever.names) - set(bare.retriever.names) == {TITLES}
    assert set(titled.counters.names) - set(bare.counters.names) == {*COUNTERS, "list_like_titles"}


def test_a_batch_counts_titles_as_each_of_its_requests_alone(log: Recorded, tmp_path: Path) -> None:
    titles, found = titles_of(log, tmp_path), moments(log, DEFAULT, target_kinds(log, DEFAULT))
    requests = np.arange(len(found) - 24, len(found))
    together = Replay(log, DEFAULT, prepared(log, titles), **ANY).take(found, requests)
    alone = Replay(log, DEFAULT, prepared(log, titles), **ANY)
    names = alone.preparation.counters.names
    assert together.counters[..., names.index("title_greatest")].any()
    for place, request in enumerate(requests.tolist()):
        one = alone.take(found, np.array([request]))
        width = one.item.shape[1]
        assert one.item[0].tolist() == together.item[place, :width].tolist()
        np.testing.assert_array_equal(one.counters[0], together.counters[place, :width])


def test_live_titles_count_as_those_of_training_bit_for_bit(log: Recorded, tmp_path: Path) -> None:
    titles, found = titles_of(log, tmp_path), moments(log, DEFAULT, target_kinds(log, DEFAULT))
    request = np.array([len(found) - 1])
    replay = Replay(log, DEFAULT, prepared(log, titles), **ANY)
    trained = replay.take(found, request)
    now_ms = int(found.ts_ms[request[0]])
    told = LiveTitles(titles.projection)
    raw = library(tmp_path).vectors([f"{t}" for t in titled(log)])
    # A live store knows no item that nobody heard of; here each has its index from the start.
    raw[log.known_ms >= now_ms] = 0
    for at in np.random.default_rng(0).permutation(len(raw)):
        told.tell(replay.items, [int(at)], raw[at : at + 1])  # type: ignore[arg-type]
    live = prepared(log, told)
    live.renew(replay.preparation.neighbours)
    rows = replay.users[found.user[request]]
    view = user_view(replay.layout, rows, now_ms)
    scene = np.concatenate((rows["scene"], log.columns.codes[found.event[request], -3:]), axis=1)
    shared = [Freshness(DEFAULT, 0).at(replay.items, now_ms)]
    candidates = live.find(view, scene, np.array([now_ms]), replay.items, shared)
    batch = live.batch(view, scene, replay.items, candidates, look_now(replay.items, now_ms))
    assert batch.item.tolist() == trained.item.tolist()
    assert batch.counters.tobytes() == trained.counters.tobytes()


def titled(log: Recorded) -> list[str]:
    """The titles that `titles_of` gives."""
    return [title(n) if n % 7 else "" for n in range(len(log.item_ids))]


def test_an_item_is_found_by_its_title_only_after_it_was_heard_of(log: Recorded, tmp_path: Path) -> None:
    titles, found = titles_of(log, tmp_path), moments(log, DEFAULT, target_kinds(log, DEFAULT))
    replay = Replay(log, DEFAULT, prepared(log, titles), **ANY)
    proposed = 0
    for request in range(0, len(found), 97):
        batch = replay.take(found, np.array([request]))
        seen = log.known_ms < found.ts_ms[request]
        assert seen[batch.item[batch.item >= 0]].all()
        proposed += int((batch.near[..., replay.preparation.retriever.names.index(TITLES)] > 0).sum())
    assert proposed > 0


def test_a_training_meets_items_that_nobody_has_touched(tmp_path: Path) -> None:
    catalogue = {f"i{n}": {"title": title(n)} for n in range(60)} | {"cold": {"title": title(1), "ts_ms": START_MS}}
    log = record(raw_events(5), catalogue, DEFAULT, "UTC")
    cold = log.item_ids.index("cold")
    assert not (log.item == cold).any()
    raw = library(tmp_path).vectors(log.titles)
    projection = fitted(NAME, raw, 16)
    preparation = prepared(log, RecordedTitles(projection, TitleVectors(projection.of(raw), log.known_ms)))
    found, names = moments(log, DEFAULT, target_kinds(log, DEFAULT)), preparation.counters.names
    batch = Replay(log, DEFAULT, preparation, **ANY).take(found, np.arange(len(found) - 64, len(found)))
    user, place = np.nonzero(batch.item == cold)
    assert len(user) > 0
    counted = batch.counters[user, place]
    assert not counted[:, names.index("item_all")].any()
    assert counted[:, names.index("list_like_titles")].all()
    assert counted[:, names.index("title_greatest")].any()


def test_an_item_of_the_catalogue_is_known_from_its_time_on(log: Recorded) -> None:
    first = np.full(len(log.item_ids), 2**62)
    np.minimum.at(first, log.item, log.columns.ts_ms)
    assert log.known_ms.tolist() == first.tolist()
    earlier = dataclasses.replace(log, listed_ms=np.full(len(log.item_ids), 7))
    assert set(earlier.known_ms.tolist()) == {7}


def entry(item_id: str, title: str | None) -> bytes:
    return orjson.dumps({"item_id": item_id, **({"title": title} if title else {})})


def listed(arrays: ItemArrays, **titles: str | None) -> None:
    arrays.put({item_id: (None, entry(item_id, title)) for item_id, title in titles.items()})


def test_a_title_is_wanted_when_it_is_new_or_another_one() -> None:
    arrays, titles = ItemArrays(ItemLayout(DEFAULT)), LiveTitles(identity(8))
    listed(arrays, a="red mug", b=None, c="blue mug")
    assert titles.wanted(arrays, 10) == [0, 2]
    assert titles.wanted(arrays, 10) == []
    listed(arrays, a="red mug", c="green mug", d="old clock")
    assert titles.wanted(arrays, 1) == [2]
    assert titles.wanted(arrays, 10) == [3]
    listed(arrays, a=None)
    assert titles.wanted(arrays, 10) == [0]


def test_another_store_begins_anew() -> None:
    one, other, titles = ItemArrays(ItemLayout(DEFAULT)), ItemArrays(ItemLayout(DEFAULT)), LiveTitles(identity(8))
    listed(one, a="red mug")
    listed(other, x="rug", y="vase")
    titles.tell(one, titles.wanted(one, 5), np.eye(8, dtype=np.float32)[:1])
    assert titles.at(one).vectors[0].any()
    assert titles.wanted(other, 5) == [0, 1]
    assert not titles.at(other).vectors.any()
    titles.tell(one, [0], np.eye(8, dtype=np.float32)[:1])  # said of the old store, too late
    assert not titles.at(other).vectors.any()


def identity(width: int) -> Projection:
    """Vectors as they are."""
    return Projection(NAME, np.zeros(width, np.float32), np.eye(width, dtype=np.float32))
