"""What the served ranker must keep to in time and scene, on a small planted shop whose truth is known."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from model_server.attribution.owed import owed
from model_server.attribution.parts import Known
from model_server.bundle import ranker_of
from model_server.counters.batch import CountedBatch
from model_server.counters.groups import SCENE
from model_server.evaluation.planted import DEVICES, NULL, WEATHERS, Planting, World, code_of
from model_server.evaluation.planted_log import log
from model_server.preparation import look_now
from model_server.ranker.device import Precision
from model_server.ranker.lists import collate
from model_server.ranker.live import NetRanker
from model_server.retrieval.retriever import Retrieved
from model_server.scoring import Requests, Scored
from model_server.training import report
from model_server.training.asof import Replay
from model_server.training.config import TrainConfig
from model_server.training.progress import Silent
from model_server.training.requests import Split
from model_server.training.train import train
from streams.features.calendar import Calendar
from streams.features.declaration import DEFAULT
from streams.features.view import UserView, user_view

SHOP = Planting(users=150, items=120, categories=6, days=28)
TINY = dataclasses.replace(
    TrainConfig(split=Split(test=0.0)).quick, lists=1_200, valid=300, width=40, hidden=16, threads=1
)
USERS = 24
TOLERANCE = 1e-4
"""Float32 scores of one user in batches of different shape, relative to their deviation."""


@dataclass(frozen=True)
class Served:
    """A trained ranker as a worker has it, and the requests of some users at the end of the log."""

    world: World
    ranker: NetRanker
    replay: Replay
    requests: Requests
    now_ms: int

    def under(self, scene: np.ndarray) -> Requests:
        return dataclasses.replace(self.requests, scene=scene)

    def with_value(self, field: str, code: int) -> np.ndarray:
        """The scenes with one field of everybody at a value."""
        scene = self.requests.scene.copy()
        scene[:, DEFAULT.scene_names.index(field)] = code
        return scene

    def found(self) -> Retrieved:
        requests, items = self.requests, self.replay.items
        shared = [self.replay._freshness.at(items, self.now_ms)] * len(requests.users)
        now = np.full(len(requests.users), self.now_ms)
        return self.ranker.preparation.find(requests.view, requests.scene, now, items, shared)

    def counted(self, found: Retrieved, scene: np.ndarray) -> CountedBatch:
        items = self.replay.items
        return self.ranker.preparation.batch(self.requests.view, scene, items, found, look_now(items, self.now_ms))

    def scores(self, batch: CountedBatch, rows: np.ndarray | None = None) -> np.ndarray:
        chosen = np.arange(len(batch.item)) if rows is None else rows
        lists = collate(batch, chosen, self.ranker.preparation.history)
        return self.ranker.forward((len(chosen), batch.item.shape[1]), [(np.arange(len(chosen)), lists)])[0]


@pytest.fixture(scope="module")
def served() -> Served:
    torch.set_num_threads(1)
    world = World.plant(SHOP, 5, DEFAULT)
    recorded = log(world, DEFAULT)
    trained = train(recorded, DEFAULT, TINY, Silent())
    told = report.report(trained, recorded, 0)
    ranker = ranker_of(report.bundle_of(trained, DEFAULT, told, 0), DEFAULT, "cpu")
    assert isinstance(ranker, NetRanker)
    ranker.precision = Precision(ranker.device)
    now_ms = int(recorded.columns.ts_ms[-1]) + 60_000
    replay = trained.dataset.replay()
    replay.fold_before(now_ms)
    rows = replay.users[:USERS]
    moment = np.tile(np.array([[13, 3, 0]], np.uint8), (USERS, 1))
    scene = np.concatenate((rows["scene"], moment), axis=1)
    view = user_view(replay.layout, rows, now_ms)
    return Served(world, ranker, replay, Requests(recorded.user_ids[:USERS], view, scene), now_ms)


def lift(served: Served, field: str, code: int, other: int, found: Retrieved) -> np.ndarray:
    """What was planted: by how much more, as a log, each candidate is wanted under `code` than under `other`."""
    lifts = np.log(served.world.lifts[field])
    numbers = np.array([int(name[1:]) for name in served.replay.items.ids])
    category = served.world.category[numbers[np.maximum(found.candidates.item, 0)]]
    found_lift: np.ndarray = (lifts[:, code] - lifts[:, other])[category]
    return found_lift


def centred(part: np.ndarray, real: np.ndarray) -> np.ndarray:
    """What differs from the mean of its own list, of the real candidates: what moves a whole list ranks nothing."""
    mean = np.where(real, part, 0).sum(1, keepdims=True) / real.sum(1, keepdims=True)
    away: np.ndarray = (part - mean)[real]
    return away


def moved(served: Served, field: str, code: int, other: int) -> np.ndarray:
    """By how much more each candidate scores under `code` than under `other`."""
    found = served.found()
    one, two = (served.scores(served.counted(found, served.with_value(field, c))) for c in (code, other))
    return centred(one - two, found.candidates.item >= 0)


def planted(served: Served, field: str, code: int, other: int) -> np.ndarray:
    """By how much more, as a log, each candidate is wanted there."""
    found = served.found()
    return centred(lift(served, field, code, other, found), found.candidates.item >= 0)


PAIRS = [
    ("hour", 1 + 8, 1 + 20),
    ("hour", 1 + 2, 1 + 14),
    ("device", code_of(DEFAULT, "device", DEVICES[0]), code_of(DEFAULT, "device", DEVICES[2])),
    ("weather", code_of(DEFAULT, "weather", WEATHERS[0]), code_of(DEFAULT, "weather", WEATHERS[2])),
]


@pytest.mark.parametrize(("field", "code", "other"), PAIRS)
def test_another_scene_moves_the_score_the_planted_way(served: Served, field: str, code: int, other: int) -> None:
    truth, moves = planted(served, field, code, other), moved(served, field, code, other)
    assert moves[truth > 0.3].mean() > 0.1
    assert moves[truth < -0.3].mean() < -0.1
    assert np.corrcoef(truth, moves)[0, 1] > 0.5


def test_a_field_that_says_nothing_moves_the_score_less_than_any_that_does(served: Served) -> None:
    wifi, cellular = (code_of(DEFAULT, "network", name) for name in ("wifi", "cellular"))
    idle = np.abs(moved(served, "network", wifi, cellular)).mean()
    for field, code, other in PAIRS:
        assert np.abs(moved(served, field, code, other)).mean() > 1.3 * idle, field


def test_midnight_is_no_wall(served: Served) -> None:
    """23:59 and 00:01 of one day of the week: about as near as other neighbouring hours, far nearer than noon."""

    def apart(one: int, two: int) -> float:
        return float(np.abs(moved(served, "hour", 1 + one, 1 + two)).mean())

    assert apart(23, 0) < 1.25 * max(apart(hour, hour + 1) for hour in range(23))
    assert apart(23, 0) < 0.6 * apart(23, 11)


def test_a_scene_that_is_not_known_is_answered_like_a_usual_one(served: Served) -> None:
    nothing = served.under(np.zeros_like(served.requests.scene))
    known = served.ranker.score(served.requests, served.replay.items, served.now_ms)
    answer, again = (served.ranker.score(nothing, served.replay.items, served.now_ms) for _ in range(2))
    assert np.isfinite(answer.final).all()
    assert (answer.item[:, 0] >= 0).all()
    assert (answer.final[:, 0] > 0).all()
    assert len(np.unique(answer.item[:, 0])) > 3
    assert again.item.tolist() == answer.item.tolist()
    assert np.median(answer.final[:, 0]) > np.median(known.final[:, 0]) / 2


def test_a_field_that_is_not_known_has_no_opinion_and_changes_no_other_lift(served: Served) -> None:
    found, names = served.found(), served.ranker.preparation.counters.names
    told = served.counted(found, served.requests.scene).counters
    lifts = {field: told[..., names.index(f"scene_lift_{field}")] for field in ("hour", "device", "weather")}
    for unknown in lifts:
        counters = served.counted(found, served.with_value(unknown, 0)).counters
        for field, lift in lifts.items():
            now = counters[..., names.index(f"scene_lift_{field}")]
            np.testing.assert_array_equal(now, np.zeros_like(lift) if field == unknown else lift)
            assert lift.any()


def test_the_order_of_the_candidates_does_not_matter(served: Served) -> None:
    found = served.found()
    turned = np.random.default_rng(0).permutation(found.candidates.item.shape[1])
    other = found._replace(
        candidates=type(found.candidates)(found.candidates.item[:, turned], found.candidates.near[:, turned])
    )
    scene = served.requests.scene
    one, two = served.scores(served.counted(found, scene)), served.scores(served.counted(other, scene))
    real = found.candidates.item >= 0
    deviation = one[real].std()
    np.testing.assert_allclose(one[:, turned][real[:, turned]], two[real[:, turned]], atol=TOLERANCE * deviation)


def part_of(requests: Requests, rows: slice) -> Requests:
    return Requests(
        requests.users[rows], UserView._make(column[rows] for column in requests.view), requests.scene[rows]
    )


def test_a_user_is_scored_the_same_in_batches_of_any_shape(served: Served) -> None:
    """Explored items are drawn by batch, so the candidates are those found once."""
    batch = served.counted(served.found(), served.requests.scene)
    real, whole = batch.item >= 0, served.scores(batch)
    deviation = whole[real].std()
    for rows in (np.arange(1), np.arange(5, 12), np.arange(USERS)[::-1]):
        np.testing.assert_allclose(
            served.scores(batch, rows)[real[rows]], whole[rows][real[rows]], atol=TOLERANCE * deviation
        )


def test_a_worker_answers_the_same_for_a_user_alone_and_among_others(served: Served) -> None:
    """By the whole way of the worker, where only what was drawn to try out may differ."""

    def firm(answer: Scored, row: int) -> dict[int, float]:
        shown = answer.propensity[row] == 1
        return dict(zip(answer.item[row][shown].tolist(), answer.final[row][shown].tolist(), strict=True))

    whole = served.ranker.score(served.requests, served.replay.items, served.now_ms)
    for row in (0, USERS // 2, USERS - 1):
        alone = served.ranker.score(part_of(served.requests, slice(row, row + 1)), served.replay.items, served.now_ms)
        one, other = firm(whole, row), firm(alone, 0)
        both = sorted(set(one) & set(other))
        assert len(both) >= 0.8 * len(one)
        np.testing.assert_allclose([one[i] for i in both], [other[i] for i in both], atol=1e-5)


def test_what_a_score_is_owed_to_sums_to_it_and_the_scene_has_its_share(served: Served) -> None:
    answer = served.ranker.score(served.requests, served.replay.items, served.now_ms)
    shares = []
    for user in range(USERS):
        for place in np.flatnonzero(answer.item[user] >= 0)[:3].tolist():
            owed, final = answer.because(user, place), float(answer.final[user, place])
            assert sum(owed.values()) == pytest.approx(np.log(final / (1 - final)), abs=1e-3)
            shares.append(owed[SCENE])
    assert np.abs(shares).max() > 0.1


def test_what_was_planted_is_owed_more_than_fields_that_mean_nothing(served: Served) -> None:
    """Of the scene, each user's share of a field is as large as it is meant to be: network and weekday mean nothing."""
    layout, replay = served.replay.layout, served.replay
    sums = dict.fromkeys(DEFAULT.scene_names, 0.0)
    for user in range(6):
        (blob,) = layout.pack(replay.users[user : user + 1])
        known = Known(layout, Calendar("UTC"), replay.items, "u", bytes(blob), served.now_ms)
        items = served.ranker.score(known.requests, replay.items, served.now_ms).item[0, [0, 5]].tolist()
        for shares in owed(served.ranker, replay.items, known, items, most=8):
            for part, share in shares.shares:
                if part.sort == "scene":
                    sums[part.name] += abs(share)
    of_nothing = max(sums[field] for field in NULL)
    assert min(sums[field] for field in ("device", "weather", "hour")) > of_nothing
