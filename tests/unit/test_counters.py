"""Counters: named from the declaration, strictly as of the request, the same live as in training, bit for bit."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from model_server.counters.items import closeness
from model_server.counters.names import counter_names, default_names
from model_server.preparation import Freshness, Preparation, look_now
from model_server.retrieval.neighbours import Neighbours
from model_server.retrieval.retriever import Retriever
from model_server.training.asof import Replay
from model_server.training.recorded import Recorded
from model_server.training.requests import moments, target_kinds
from streams.features.declaration import DEFAULT
from streams.features.features_file import merge
from streams.features.view import user_view
from tests.shoplog import recorded

ANY = {"neighbours_every_ms": 2**60, "refresh_ms": 0, "profiles_ms": 0}


def prepared(log: Recorded) -> Preparation:
    return Preparation(DEFAULT, np.sort(log.codes), Neighbours.none())


@pytest.fixture(scope="module")
def log() -> Recorded:
    return recorded(5)


def test_names_are_distinct_and_follow_the_declaration() -> None:
    names = default_names()
    assert len(set(names)) == len(names)
    scene = {"os": {"profile": True}, "page": {"profile": False}}
    grown = merge(DEFAULT, {"windows": {"90d": "90d"}, "scene": scene})
    more = set(counter_names(grown, Retriever(grown).names)) - set(names)
    assert {"item_90d", "strong_90d", "trend_30d_90d", "scene_lift_os", "list_90d"} <= more


def test_closeness_falls_with_age_down_to_never() -> None:
    near = closeness(np.array([0, 60, 86_400, 2**40, -1])).tolist()
    assert near[0] == 20
    assert near == sorted(near, reverse=True)
    assert near[-1] == 0


def test_counters_of_a_batch_are_those_of_its_requests_alone(log: Recorded) -> None:
    found = moments(log, DEFAULT, target_kinds(log, DEFAULT))
    requests = np.arange(len(found) - 24, len(found))
    together = Replay(log, DEFAULT, prepared(log), **ANY).take(found, requests)
    alone = Replay(log, DEFAULT, prepared(log), **ANY)
    for place, request in enumerate(requests.tolist()):
        one = alone.take(found, np.array([request]))
        width = one.item.shape[1]
        assert one.item[0].tolist() == together.item[place, :width].tolist()
        np.testing.assert_array_equal(one.counters[0], together.counters[place, :width])


def test_live_counters_equal_training_counters_bit_for_bit(log: Recorded) -> None:
    found = moments(log, DEFAULT, target_kinds(log, DEFAULT))
    request = np.array([len(found) - 1])
    replay = Replay(log, DEFAULT, prepared(log), **ANY)
    trained = replay.take(found, request)
    # A live worker: rows from the store, one moment for all users, views looked up once an item.
    now_ms = int(found.ts_ms[request[0]])
    live = prepared(log)
    live.renew(replay.preparation.neighbours)
    rows = replay.users[found.user[request]]
    view = user_view(replay.layout, rows, now_ms)
    scene = np.concatenate((rows["scene"], log.columns.codes[found.event[request], -3:]), axis=1)
    shared = [Freshness(DEFAULT, 0).at(replay.items, now_ms)]
    candidates = live.find(view, scene, np.array([now_ms]), replay.items, shared)
    batch = live.batch(view, scene, replay.items, candidates, look_now(replay.items, now_ms))
    assert batch.item.tolist() == trained.item.tolist()
    assert batch.counters.tobytes() == trained.counters.tobytes()
    for field in ("hour", "weekday", "device"):
        assert batch.counters[..., live.counters.names.index(f"scene_lift_{field}")].any()
    for live_part, trained_part in zip(batch.past, trained.past, strict=True):
        np.testing.assert_array_equal(live_part, trained_part)


def test_what_happens_at_the_moment_of_the_request_does_not_count(log: Recorded) -> None:
    found = moments(log, DEFAULT, target_kinds(log, DEFAULT))
    request = np.array([len(found) - 1])
    same_stamp = np.flatnonzero(log.columns.ts_ms == found.ts_ms[request[0]])
    crowd = np.concatenate((np.arange(len(log)), np.repeat(same_stamp, 50)))
    crowd = crowd[np.argsort(log.columns.ts_ms[crowd], kind="stable")]
    crowded = dataclasses.replace(log, columns=log.columns.take(crowd), user=log.user[crowd], item=log.item[crowd])
    quiet = Replay(log, DEFAULT, prepared(log), **ANY).take(found, request)
    loud = Replay(crowded, DEFAULT, prepared(log), **ANY).take(found, request)
    assert len(crowded) >= len(log) + 50
    assert loud.item.tolist() == quiet.item.tolist()
    assert loud.counters.tobytes() == quiet.counters.tobytes()


def test_a_counter_does_not_depend_on_the_other_candidates(log: Recorded) -> None:
    found = moments(log, DEFAULT, target_kinds(log, DEFAULT))
    request = np.array([len(found) - 1])
    replay = Replay(log, DEFAULT, prepared(log), **ANY)
    batch = replay.take(found, request)
    now_ms = int(found.ts_ms[request[0]])
    rows = replay.users[found.user[request]]
    view = user_view(replay.layout, rows, now_ms)
    shared = [Freshness(DEFAULT, 0).at(replay.items, now_ms)]
    candidates = replay.preparation.find(view, batch.scene, np.array([now_ms]), replay.items, shared)
    few = candidates._replace(
        candidates=candidates.candidates._replace(item=batch.item[:, 5:9], near=batch.near[:, 5:9])
    )
    alone = replay.preparation.batch(view, batch.scene, replay.items, few, look_now(replay.items, now_ms))
    np.testing.assert_array_equal(alone.counters, batch.counters[:, 5:9])


def test_padding_counts_nothing_and_every_counter_is_finite(log: Recorded) -> None:
    found = moments(log, DEFAULT, target_kinds(log, DEFAULT))
    batch = Replay(log, DEFAULT, prepared(log), **ANY).take(found, np.arange(32))
    assert (batch.item < 0).any()
    assert not batch.counters[batch.item < 0].any()
    assert np.isfinite(batch.counters).all()


def test_a_longer_window_never_counts_less(log: Recorded) -> None:
    found = moments(log, DEFAULT, target_kinds(log, DEFAULT))
    preparation = prepared(log)
    batch = Replay(log, DEFAULT, preparation, **ANY).take(found, np.arange(len(found) - 32, len(found)))
    names = preparation.counters.names
    columns = [batch.counters[..., names.index(f"item_{w.name}")] for w in DEFAULT.windows]
    for short, long in pairwise(columns):
        assert (short <= long).all()
