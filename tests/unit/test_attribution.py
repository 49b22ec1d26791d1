"""What a user's scores are owed to: shares sum to the logit, and go to what was made to matter."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch
from rich.console import Console

from model_server.attribution.owed import Owed, owed
from model_server.attribution.page import facts, page
from model_server.attribution.parts import Known, Part
from model_server.bundle import ranker_of
from model_server.ranker.device import Precision
from model_server.ranker.live import NetRanker
from model_server.ranker.net import Net, NetShape
from model_server.scoring import BASE, Ranker, Requests
from model_server.training.asof import Replay
from model_server.training.recorded import Recorded
from streams.features.calendar import Calendar
from streams.features.declaration import DEFAULT
from streams.features.rows import Layout
from streams.features.view import user_view
from tests.shoplog import recorded
from tests.unit.test_bundle import made_bundle

USERS = (0, 1, 2, 3)
WITHIN = 1e-3
"""What the shares of a candidate may miss of its logit."""
NOTHING = 1e-5
"""A share of what cannot matter: float32 scores of one user in other places of a batch."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Shop:
    """The small log at its end: its items, and rankers over them."""

    def __init__(self) -> None:
        self.log: Recorded = recorded(7)
        self.now_ms = int(self.log.columns.ts_ms[-1]) + 60_000
        self.rankers: dict[str, Ranker] = {
            "blend": ranker_of(made_bundle(self.log, "blend", net=False), DEFAULT, "cpu"),
            "counter net": ranker_of(made_bundle(self.log, "counters", encoder=False), DEFAULT, "cpu"),
            "encoder": ranker_of(made_bundle(self.log, "with encoder"), DEFAULT, "cpu"),
        }
        for ranker in self.rankers.values():
            if isinstance(ranker, NetRanker):
                ranker.precision = Precision(ranker.device)
        net = self.rankers["encoder"]
        assert isinstance(net, NetRanker)
        self.replay = Replay(self.log, DEFAULT, net.preparation, neighbours_every_ms=2**60, refresh_ms=0)
        self.replay.fold_before(self.now_ms)
        self.layout = Layout(DEFAULT)

    def row(self, user: int) -> np.ndarray:
        """A copy of a user's row."""
        return self.replay.users[user : user + 1].copy()

    def known(self, row: np.ndarray) -> Known:
        (blob,) = self.layout.pack(row)
        return Known(self.layout, Calendar("UTC"), self.replay.items, "u", bytes(blob), self.now_ms)

    def best(self, ranker: Ranker, known: Known) -> tuple[list[int], list[float]]:
        """The two best items of a user and the logits of their `final`."""
        scored = ranker.score(known.requests, self.replay.items, self.now_ms)
        chance = scored.final[0, :2].astype(np.float64)
        return scored.item[0, :2].tolist(), np.log(chance / (1 - chance)).tolist()

    def linear(self, **weights: float) -> Ranker:
        """A ranker that looks at these counters alone, by these weights."""
        bundle = made_bundle(self.log, "linear", encoder=False)
        net = Net(NetShape(len(bundle.counters)))
        with torch.no_grad():
            for name, weight in weights.items():
                net.base.linear.weight[0, bundle.counters.index(name)] = weight
        stored = {name: part.numpy() for name, part in net.state_dict().items()}
        return ranker_of(dataclasses.replace(bundle, weights=stored), DEFAULT, "cpu")

    def owed(self, ranker: Ranker, known: Known, items: list[int], most: int = 16) -> list[Owed]:
        return owed(ranker, self.replay.items, known, items, most=most)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


def by_name(shares: Owed, sort: str) -> dict[str, float]:
    """Shares of one sort, by name; kinds of an item together."""
    found: dict[str, float] = {}
    for part, share in shares.shares:
        if part.sort == sort:
            found[part.name] = found.get(part.name, 0.0) + share
    return found


RANKERS = ["blend", "counter net", "encoder"]


@pytest.mark.parametrize("name", RANKERS)
def test_shares_sum_to_the_logit_that_the_ranker_gives(shop: Shop, name: str) -> None:
    for user in USERS:
        known = shop.known(shop.row(user))
        items, logits = shop.best(shop.rankers[name], known)
        for shares, logit in zip(shop.owed(shop.rankers[name], known, items), logits, strict=True):
            total = sum(share for _, share in shares.shares) + sum(shares.unseen.values())
            assert total == pytest.approx(logit, abs=WITHIN)
            assert abs(shares.residual) < WITHIN
            assert shares.found
            assert BASE in shares.unseen


@pytest.mark.parametrize("name", RANKERS)
def test_without_any_of_its_parts_a_user_is_one_that_was_never_seen(shop: Shop, name: str) -> None:
    """So nothing that a ranker reads of a user is no part of it."""
    nobody = user_view(shop.layout, shop.layout.empty(1), shop.now_ms)
    stranger = Requests(["u"], nobody, np.zeros((1, len(DEFAULT.scene_names)), np.uint8))
    items = np.arange(20, dtype=np.int32)
    of_stranger = shop.rankers[name].weigh(stranger, shop.replay.items, shop.now_ms, items)
    for user in USERS:
        known = shop.known(shop.row(user))
        without = known.with_only(np.zeros((1, len(known.parts)), np.bool_))
        found = shop.rankers[name].weigh(without, shop.replay.items, shop.now_ms, items)
        assert found.logit == pytest.approx(of_stranger.logit, abs=NOTHING)


def test_with_all_of_its_parts_a_user_is_as_it_is(shop: Shop) -> None:
    known = shop.known(shop.row(1))
    whole = known.with_only(np.ones((3, len(known.parts)), np.bool_))
    assert (whole.scene == known.requests.scene).all()
    for name, column in whole.view._asdict().items():
        assert (column == getattr(known.requests.view, name)).all(), name


def test_what_is_asked_about_scores_as_it_does_in_the_ranking(shop: Shop) -> None:
    known = shop.known(shop.row(2))
    for ranker in shop.rankers.values():
        items, logits = shop.best(ranker, known)
        weighed = ranker.weigh(known.requests, shop.replay.items, shop.now_ms, np.array(items, np.int32))
        assert weighed.logit[0] == pytest.approx(logits, abs=WITHIN)


def test_an_item_that_no_list_finds_is_told_apart_and_has_its_score(shop: Shop) -> None:
    known = shop.known(shop.row(0))
    ranker = shop.rankers["blend"]
    shop.replay.items.listed[5] = False
    try:
        (shares,) = shop.owed(ranker, known, [5])
    finally:
        shop.replay.items.listed[5] = True
    assert not shares.found
    assert abs(shares.residual) < WITHIN


def test_an_own_item_that_matters_has_the_share_and_other_items_have_none(shop: Shop) -> None:
    ranker = shop.linear(own_n=2.0)
    known = shop.known(shop.row(0))
    item = shop.replay.items.find(known.requests.view.item)[0, 0]
    (shares,) = shop.owed(ranker, known, [int(item)])
    past = by_name(shares, "history")
    own = past.pop(shop.replay.items.ids[item])
    assert own > 1
    assert max(map(abs, past.values())) < NOTHING
    assert own == pytest.approx(shares.logit - sum(shares.unseen.values()), abs=WITHIN)
    for sort in ("scene", "window", "user"):
        assert max(map(abs, by_name(shares, sort).values())) < NOTHING


def test_a_scene_field_that_matters_has_the_share_and_other_fields_have_none(shop: Shop) -> None:
    ranker = shop.linear(scene_lift_device=3.0)
    known = shop.known(shop.row(1))
    items, _ = shop.best(ranker, known)
    for shares in shop.owed(ranker, known, items):
        fields = by_name(shares, "scene")
        device = fields.pop("device")
        assert device > 0.05
        assert device == pytest.approx(shares.logit - sum(shares.unseen.values()), abs=WITHIN)
        assert max(map(abs, fields.values())) < NOTHING
        assert max(map(abs, by_name(shares, "history").values())) < NOTHING


def test_windows_matter_to_the_encoder_alone(shop: Shop) -> None:
    known = shop.known(shop.row(0))
    for name, read in (("blend", False), ("counter net", False), ("encoder", True)):
        items, _ = shop.best(shop.rankers[name], known)
        (shares, *_) = shop.owed(shop.rankers[name], known, items)
        windows = by_name(shares, "window")
        assert windows
        assert (max(map(abs, windows.values())) > NOTHING) == read, name


def test_shares_go_with_the_items_where_the_history_is_in_another_order(shop: Shop) -> None:
    """The ranker counts and does not look at times, so when what was done is of no account."""
    ranker = shop.linear(own_n=2.0, own_strong=1.0, category_n=0.5)
    row = shop.row(2)
    turned = row.copy()
    n, low = int(row["history_n"][0]), np.uint64(0xFFFF_FFFF)
    entries = row["history"][0, :n]
    turned["history"][0, :n]["item"] = entries["item"][::-1]
    turned["history"][0, :n]["key"] = (entries["key"] & ~low) | (entries["key"][::-1] & low)
    item = [int(shop.replay.items.find(entries["item"])[-1])]
    (one,), (other,) = (shop.owed(ranker, shop.known(each), item, most=8) for each in (row, turned))
    before, after = ({part.key: share for part, share in each.shares} for each in (one, other))
    assert [part.key for part, _ in one.shares] != [part.key for part, _ in other.shares]
    assert after == pytest.approx(before, abs=NOTHING)


@pytest.mark.parametrize("name", RANKERS)
def test_without_the_part_of_the_greatest_share_the_score_is_lower_than_without_that_of_the_least(
    shop: Shop, name: str
) -> None:
    ranker = shop.rankers[name]
    for user in USERS:
        known = shop.known(shop.row(user))
        items, _ = shop.best(ranker, known)
        (shares, *_) = shop.owed(ranker, known, items, most=32)
        of_parts = np.array([share for _, share in shares.shares])
        present = np.ones((2, len(of_parts)), np.bool_)
        present[0, of_parts.argmax()] = present[1, of_parts.argmin()] = False
        without = known.with_only(present)
        logit = ranker.weigh(without, shop.replay.items, shop.now_ms, np.array(items[:1], np.int32)).logit[:, 0]
        assert logit[0] < logit[1]


def test_the_page_has_the_greatest_shares_in_words_and_the_rest_in_one_line() -> None:
    parts = (
        (Part("history", "i9", "click", 3, 7_200_000), -0.5),
        (Part("scene", "device", "phone"), 1.25),
        (Part("window", "24h", times=12), 0.004),
        (Part("user", "last seen", age_ms=90_000), 0.02),
    )
    made = Owed(1, -2.0, parts, (0.01, 0.0, 0.0, 0.0), {"prices": 0.226, BASE: -3.0}, found=True)
    text = io.StringIO()
    Console(file=text, width=120, highlight=False).print(page(made))
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert lines[1:8] == [
        "+1.250 0.00 scene device phone",
        "-0.500 0.01 history i9 click ×3, newest 2 h ago",
        "+0.020 0.00 user last seen 1 min 30 s ago",
        "+0.004 1 other part",
        "+0.226 anybody prices",
        "-3.000 anybody base",
        "-2.000 the logit (+0.0e+00 unexplained)",
    ]
    told = facts(made)
    assert told["shares"][0] == {
        "sort": "history", "name": "i9", "value": "click", "times": 3, "age_ms": 7_200_000, "share": -0.5,
        "error": 0.01,
    }  # fmt: skip
    assert sum(each["share"] for each in told["shares"]) + sum(told["anybody"].values()) == pytest.approx(-2.0)
