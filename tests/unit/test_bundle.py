"""Bundles: written whole or not at all, read back, served, with their heads."""

import dataclasses
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch

from model_server.blend import Blend
from model_server.blend_ranker import UNTRAINED, BlendRanker
from model_server.bundle import (
    Bundle,
    load,
    ranker_of,
    save,
)
from model_server.bundle_watcher import BundleWatcher
from model_server.finding import Finder
from model_server.heads.cells import CellCalibration, cells, count
from model_server.heads.grades import Cutoffs, cascade
from model_server.heads.heads import Grading, Heads
from model_server.heads.people import width
from model_server.heads.sides import Side
from model_server.items import ItemArrays
from model_server.model_folder import current_version, make_current
from model_server.preparation import Preparation, look_now
from model_server.ranker.device import Precision
from model_server.ranker.encoder import EncoderShape
from model_server.ranker.live import NetRanker
from model_server.ranker.net import Net, NetShape
from model_server.retrieval.neighbours import Neighbours
from model_server.scoring import Requests, Scored
from model_server.training.asof import Replay, neighbours_before
from model_server.training.recorded import Recorded
from model_server.training.stages import hidden_of
from streams.features.declaration import DEFAULT
from streams.features.items import ItemLayout
from streams.features.view import user_view
from tests.shoplog import recorded


@pytest.fixture(scope="module")
def log() -> Recorded:
    return recorded(7)


@pytest.fixture(scope="module")
def replay(log: Recorded) -> Replay:
    preparation = Preparation(DEFAULT, np.empty(0, np.uint64), Neighbours.none())
    made = Replay(log, DEFAULT, preparation, neighbours_every_ms=2**60, refresh_ms=0)
    made.fold_before(2**62)
    return made


def made_heads(hidden: int) -> Heads:
    """Heads with every part away from what is assumed, over so many hidden numbers."""
    rng, size, own = np.random.default_rng(1), count(DEFAULT), width(DEFAULT)
    calibrations = [CellCalibration(rng.uniform(0.5, 2, size), rng.normal(size=size)) for _ in range(2)]
    grading = Grading(np.ones(2), np.array([-2.0, -1.0]), rng.normal(size=(hidden, 2)), of_item=False)
    comes = Side("learned", -1.0, 9, 3, np.zeros(own), np.ones(own), rng.normal(size=own) / 9)
    return Heads(grading, Cutoffs(0.1, 0.2), (calibrations[0], calibrations[1]), comes=comes)


def made_bundle(log: Recorded, version: str, *, net: bool = True, encoder: bool = True) -> Bundle:
    neighbours = neighbours_before(log, DEFAULT, len(log))
    words = np.sort(log.codes)
    preparation = Preparation(DEFAULT, words, neighbours)
    features = len(preparation.counters.names)
    shape = EncoderShape(
        features=features, words=len(words) + 1, kinds=len(DEFAULT.kinds), window_kinds=len(DEFAULT.window_kinds),
        windows=len(DEFAULT.windows), scene_sizes=DEFAULT.scene_sizes, hidden=16, heads=2, layers=1,
    )  # fmt: skip
    torch.manual_seed(len(version))
    made = Net(NetShape(features, shape if encoder else None))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return Bundle(
        version=version,
        schema=DEFAULT.schema,
        counters=preparation.counters.names,
        lists=preparation.retriever.names,
        history=preparation.history,
        words=words,
        neighbours=neighbours,
        blend=Blend(np.linspace(0.1, 1, len(preparation.retriever.names), dtype=np.float32)),
        calibrations={"net": (1.0, -3.0), "blend": (1.0, -4.0)},
        shape=dataclasses.asdict(made.shape) if net else None,
        weights={name: part.numpy() for name, part in made.state_dict().items()} if net else None,
        report={"served": "counter net"},
        heads=made_heads(64 if net else 0),
    )


def served(folder: Path, bundle: Bundle) -> Path:
    """Write a bundle and bring it into force."""
    path = save(folder, bundle)
    make_current(folder, bundle.version, "train", 0)
    return path


def asked(log: Recorded, replay: Replay, users: int = 5) -> tuple[Requests, int]:
    now_ms = int(log.columns.ts_ms[-1]) + 60_000
    rows = replay.users[:users]
    moment = np.full((users, 3), 3, np.uint8)
    scene = np.concatenate((rows["scene"], moment), axis=1)
    return Requests(log.user_ids[:users], user_view(replay.layout, rows, now_ms), scene), now_ms


def check_answer(answer: Scored, items: int) -> None:
    assert answer.item.max() < items
    assert (answer.item[:, 0] >= 0).all()
    sides = (answer.p_open, answer.p_buy, answer.p_optout, answer.p_anyway)
    for number in (*sides, answer.p_rec, answer.p_best, answer.final, answer.propensity):
        assert np.isfinite(number).all()
        assert ((number >= 0) & (number <= 1)).all()
        assert not number[answer.item < 0].any()
    assert (np.diff(answer.final, axis=1) <= 0).all()
    assert (answer.p_best <= answer.p_rec).all()
    assert ((answer.grade >= 0) & (answer.grade <= 2) & ((answer.item >= 0) | (answer.grade == 0))).all()
    assert (answer.reasons[answer.item >= 0] > 0).all()


def test_before_any_bundle_the_blend_serves(log: Recorded, replay: Replay, tmp_path: Path) -> None:
    for watcher in (BundleWatcher(None, DEFAULT, "cpu"), BundleWatcher(tmp_path / "none", DEFAULT, "cpu")):
        assert watcher.poll() is None
        assert watcher.current().version == UNTRAINED
        requests, now_ms = asked(log, replay)
        check_answer(watcher.current().score(requests, replay.items, now_ms), len(log.codes))


def test_a_saved_bundle_is_read_back_and_serves(log: Recorded, replay: Replay, tmp_path: Path) -> None:
    bundle = made_bundle(log, "v1")
    served(tmp_path, bundle)
    read = load(tmp_path, "v1", DEFAULT)
    assert read.counters == bundle.counters
    assert {n: a.tolist() for n, a in read.neighbours.arrays().items()} == {
        n: a.tolist() for n, a in bundle.neighbours.arrays().items()
    }
    watcher = BundleWatcher(tmp_path, DEFAULT, "cpu")
    assert watcher.poll() == "v1"
    assert watcher.poll() is None
    ranker = watcher.current()
    assert isinstance(ranker, NetRanker)
    requests, now_ms = asked(log, replay)
    answer = ranker.score(requests, replay.items, now_ms)
    check_answer(answer, len(log.codes))
    assert 0 < answer.tokens <= answer.padded_tokens
    again = ranker_of(read, DEFAULT, "cpu")
    assert isinstance(again, NetRanker)
    ranker.precision = again.precision = Precision(ranker.device)
    first, second = (r.score(requests, replay.items, now_ms) for r in (ranker, again))
    assert first.item.tolist() == second.item.tolist()
    assert first.final.tobytes() == second.final.tobytes()


def test_heads_move_no_candidate_and_are_asked_for_those_shown(log: Recorded, replay: Replay) -> None:
    bundle = made_bundle(log, "v1")
    plain = dataclasses.replace(bundle, heads=Heads.untrained(1.0, -3.0))
    requests, now_ms = asked(log, replay, users=24)
    rankers = [ranker_of(one, DEFAULT, "cpu") for one in (bundle, plain)]
    for ranker in rankers:
        assert isinstance(ranker, NetRanker)
        ranker.precision = Precision(ranker.device)
    headed, bare = (ranker.score(requests, replay.items, now_ms) for ranker in rankers)
    assert headed.item.tolist() == bare.item.tolist()
    assert headed.final.tobytes() == bare.final.tobytes()
    assert headed.p_rec.tobytes() != bare.p_rec.tobytes()
    assert len(np.unique(headed.grade)) > 1


def test_what_is_served_of_the_heads_is_what_the_trained_net_gives_them(log: Recorded, replay: Replay) -> None:
    bundle = made_bundle(log, "v1")
    ranker = ranker_of(bundle, DEFAULT, "cpu")
    assert isinstance(ranker, NetRanker)
    ranker.precision = Precision(ranker.device)
    requests, now_ms = asked(log, replay, users=24)
    answer = ranker.score(requests, replay.items, now_ms)
    found, _ = Finder(ranker.preparation).find(requests, replay.items, now_ms)
    batch = ranker.preparation.batch(requests.view, requests.scene, replay.items, found, look_now(replay.items, now_ms))
    score, hidden = hidden_of(ranker.net, batch, bundle.history, ranker.device)
    share = np.zeros_like(score)
    first, second = bundle.heads.logits(score, hidden, share, cells(DEFAULT, requests.scene))
    chances = cascade(first, second)
    for user in range(24):
        for k in np.flatnonzero(answer.item[user] >= 0).tolist():
            at = int(np.flatnonzero(batch.item[user] == answer.item[user, k])[0])
            assert answer.p_rec[user, k] == pytest.approx(chances.rec[user, at], abs=1e-5)
            assert answer.p_best[user, k] == pytest.approx(chances.best[user, at], abs=1e-5)


def test_a_user_nobody_knows_gets_what_is_popular(log: Recorded, replay: Replay, tmp_path: Path) -> None:
    served(tmp_path, made_bundle(log, "v1"))
    watcher = BundleWatcher(tmp_path, DEFAULT, "cpu")
    watcher.poll()
    now_ms = int(log.columns.ts_ms[-1])
    empty = user_view(replay.layout, replay.layout.empty(1), now_ms)
    nobody = Requests(["new"], empty, np.zeros((1, len(DEFAULT.scene_names)), np.uint8))
    for ranker in (BlendRanker.untrained(DEFAULT), watcher.current()):
        check_answer(ranker.score(nobody, replay.items, now_ms), len(log.codes))


def test_items_and_categories_may_come_after_the_lists_were_made(log: Recorded, replay: Replay, tmp_path: Path) -> None:
    served(tmp_path, made_bundle(log, "v1"))
    watcher = BundleWatcher(tmp_path, DEFAULT, "cpu")
    watcher.poll()
    old, new = ItemArrays(ItemLayout(DEFAULT)), list(enumerate(log.item_ids))
    rows = old.layout.pack(replay.items.rows)

    def put(part: list[tuple[int, str]], category: str) -> None:
        entry = orjson.dumps({"item_id": "x", "category": category})
        old.put({item_id: (bytes(rows[n]), entry.replace(b'"x"', orjson.dumps(item_id))) for n, item_id in part})

    put(new[:-3], "c1")
    requests, now_ms = asked(log, replay)
    for ranker in (BlendRanker.untrained(DEFAULT), watcher.current()):
        check_answer(ranker.score(requests, old, now_ms), len(new))
    put(new[-3:], "a new category")
    for ranker in (BlendRanker.untrained(DEFAULT), watcher.current()):
        check_answer(ranker.score(requests, old, now_ms + 1), len(new))


def test_where_the_guard_kept_the_blend_the_fitted_blend_serves(log: Recorded, replay: Replay, tmp_path: Path) -> None:
    served(tmp_path, made_bundle(log, "v2", net=False))
    watcher = BundleWatcher(tmp_path, DEFAULT, "cpu")
    assert watcher.poll() == "v2"
    assert isinstance(watcher.current(), BlendRanker)
    requests, now_ms = asked(log, replay)
    check_answer(watcher.current().score(requests, replay.items, now_ms), len(log.codes))


def test_a_bundle_without_encoder_pads_nothing_between_lengths(log: Recorded, replay: Replay, tmp_path: Path) -> None:
    served(tmp_path, made_bundle(log, "v3", encoder=False))
    watcher = BundleWatcher(tmp_path, DEFAULT, "cpu")
    assert watcher.poll() == "v3"
    requests, now_ms = asked(log, replay)
    check_answer(watcher.current().score(requests, replay.items, now_ms), len(log.codes))


def test_current_names_a_whole_bundle_or_nothing(log: Recorded, tmp_path: Path) -> None:
    assert current_version(tmp_path) is None
    served(tmp_path, made_bundle(log, "v1"))
    assert current_version(tmp_path) == "v1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "promotions.jsonl", "v1"]
