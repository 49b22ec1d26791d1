"""Heads: a cascade that cannot turn round, calibration by cell, side heads that say what they assume, one document."""

import dataclasses
from typing import Any

import numpy as np
import orjson
import pytest

from model_server.heads.cells import SHRINK, CellCalibration, calibrate, cells, count, slots
from model_server.heads.grades import BEST_MATCH, NOT_RECOMMENDED, RECOMMENDED, Chances, Cutoffs, cascade
from model_server.heads.heads import Asked, Grading, Heads
from model_server.heads.logistic import fit, logit, sigmoid
from model_server.heads.people import person_columns, width
from model_server.heads.sides import COMES, LEAST, OPENS, OPTS_OUT, Side, learn
from streams.features.declaration import DEFAULT
from streams.features.features_file import merge
from streams.features.rows import Layout
from streams.features.view import UserView, user_view

HOUR, WEEKDAY = (DEFAULT.scene_names.index(name) for name in ("hour", "weekday"))


def scenes(users: int, **fields: int) -> Any:
    scene = np.zeros((users, len(DEFAULT.scene_names)), np.uint8)
    for name, code in fields.items():
        scene[:, DEFAULT.scene_names.index(name)] = code
    return scene


def strangers(users: int) -> UserView:
    return user_view(Layout(DEFAULT), Layout(DEFAULT).empty(users), 1_700_000_000_000)


def test_a_best_match_is_never_likelier_than_an_act_whatever_the_logits() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 20, 10_000), rng.normal(0, 20, 10_000)
    found = cascade(first, second)
    assert (found.best <= found.rec).all()
    assert ((found.rec >= 0) & (found.rec <= 1) & (found.best >= 0)).all()
    np.testing.assert_allclose(found.expected, 0.5 * found.rec + 0.5 * found.best)
    assert (cascade(first, second + 1).best >= found.best).all()
    assert (cascade(first + 1, second).best >= found.best).all()


def test_grades_are_cut_from_the_chances() -> None:
    chances = Chances(np.array([0.019, 0.02, 0.5, 0.5, 0.019]), np.array([0.0, 0.0, 0.09, 0.1, 0.1]))
    grades = Cutoffs(0.02, 0.1).grade(chances)
    assert grades.tolist() == [NOT_RECOMMENDED, RECOMMENDED, RECOMMENDED, BEST_MATCH, NOT_RECOMMENDED]
    with pytest.raises(ValueError, match="no chances above 0"):
        Cutoffs(0.0, 0.1)


def test_slots_are_quarters_of_the_local_day_and_cells_know_the_platform() -> None:
    scene = np.concatenate([scenes(1, hour=hour, device=2) for hour in (0, 1, 6, 7, 24)])
    assert slots(DEFAULT, scene).tolist() == [0, 1, 1, 2, 4]
    assert len({*cells(DEFAULT, scene).tolist()}) == 4
    everywhere = [cells(DEFAULT, scenes(1, hour=h, device=d))[0] for h in range(25) for d in range(7)]
    assert (min(everywhere), max(everywhere)) == (0, count(DEFAULT) - 1)
    without = merge(DEFAULT, {"scene": {"device": False}})
    blind = np.zeros((1, len(without.scene_names)), np.uint8)
    assert cells(without, blind).tolist() == [0]
    assert count(without) == 5


def drawn(rng: np.random.Generator, requests: int, slope: float, shift: float) -> tuple[Any, Any, Any]:
    """Logits of 40 candidates a request, labels drawn as if slope * z + shift were true, and requests."""
    z = rng.normal(-2, 1.5, requests * 40)
    return z, (rng.random(len(z)) < sigmoid(slope * z + shift)).astype(float), np.repeat(np.arange(requests), 40)


def test_calibration_finds_the_temperature_and_shift_of_each_cell() -> None:
    rng, truth = np.random.default_rng(1), {0: (0.5, -1.0), 3: (2.0, 0.5), 4: (1.0, 0.0)}
    parts = [drawn(rng, 6_000, *line) for line in truth.values()]
    z, label = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    request = np.concatenate([part[2] + 10_000 * n for n, part in enumerate(parts)])
    cell = np.repeat(list(truth), [len(part[0]) for part in parts])
    found = calibrate(z, label, cell, request, 6)
    for each, (slope, shift) in truth.items():
        assert found.slope[each] == pytest.approx(slope, rel=0.08)
        assert found.shift[each] == pytest.approx(shift, abs=0.15)
    assert found.slope[1] == found.slope[5] != found.slope[0]  # nobody was there: the common one


def test_a_small_cell_is_drawn_to_the_common_calibration() -> None:
    rng = np.random.default_rng(2)
    z, label, request = drawn(rng, 3_000, 1.0, 0.0)
    few = int(SHRINK / 50) * 40
    odd = np.where(np.arange(len(z)) < few, np.arange(len(z)) % 10 > 0, label).astype(np.float64)  # nearly all acted on
    alone = calibrate(z[:few], odd[:few], np.zeros(few, np.int64), request[:few], 1)
    cell = (np.arange(len(z)) >= few).astype(np.int64)
    found = calibrate(z, odd, cell, request, 2)
    drawn_in, common, own = (
        sigmoid(calibration(z[:few], np.full(few, each))).mean()
        for calibration, each in ((found, 0), (found, 1), (alone, 0))
    )
    assert common < drawn_in < common + 0.3 * (own - common)


def test_a_single_class_or_nothing_leaves_logits_as_they_are() -> None:
    z = np.linspace(-3, 1, 50)
    for label in (np.zeros(50), np.ones(50)):
        found = calibrate(z, label, np.zeros(50, np.int64), np.arange(50), 3)
        np.testing.assert_array_equal(found(z[:, None], np.zeros(50, np.int64))[:, 0], z)
    nothing = np.empty(0, np.int64)
    assert calibrate(np.empty(0), np.empty(0), nothing, nothing, 2).slope.tolist() == [1, 1]


def test_a_calibration_keeps_the_order_within_a_request() -> None:
    rng = np.random.default_rng(3)
    z, label, request = drawn(rng, 400, 1.0, 0.0)
    upside_down = calibrate(-z, label, np.zeros(len(z), np.int64), request, 1)
    assert upside_down.slope[0] > 0


def test_a_fit_of_one_class_is_finite_and_one_of_nothing_is_its_prior() -> None:
    design = np.stack((np.arange(30.0), np.ones(30)), axis=1)
    found = fit(design, np.ones(30), np.array([0.0, -1.0]), np.eye(2))
    assert np.isfinite(found).all()
    assert fit(design[:0], np.empty(0), np.array([0.5, -1.0]), np.eye(2)).tolist() == [0.5, -1.0]


def test_a_side_head_learns_whom_it_concerns() -> None:
    rng = np.random.default_rng(4)
    columns = rng.normal(3, 2, (4_000, 5))
    label = (rng.random(4_000) < sigmoid(0.8 * columns[:, 1] - 4)).astype(float)
    side = learn(columns, label, OPENS)
    assert side.how == "learned"
    chance = side(columns)
    assert np.corrcoef(chance, sigmoid(0.8 * columns[:, 1] - 4))[0, 1] > 0.98
    assert chance.mean() == pytest.approx(label.mean(), rel=0.05)


@pytest.mark.parametrize(
    ("cases", "positive", "how", "rate"),
    [
        (0, 0, "prior", 0.001),
        (500, 0, "rate", 1 / 1_500),
        (500, 3, "rate", 4 / 1_500),
        (LEAST - 1, 100, "rate", 101 / 1_199),
        (500, 500, "rate", 501 / 1_500),
    ],
)
def test_too_little_feedback_gives_a_rate_or_the_prior_and_says_which(
    cases: int, positive: int, how: str, rate: float
) -> None:
    label = (np.arange(cases) < positive).astype(float)
    side = learn(np.random.default_rng(0).normal(size=(cases, 3)), label, OPTS_OUT)
    assert (side.how, side.cases, side.positive) == (how, cases, positive)
    np.testing.assert_allclose(side(np.zeros((2, 3))), rate, rtol=1e-6)


def test_what_is_known_of_users_has_as_many_columns_as_it_says() -> None:
    for declaration in (DEFAULT, merge(DEFAULT, {"hour_of_week": False, "windows": {"2h": "2h"}})):
        layout = Layout(declaration)
        scene = np.zeros((3, len(declaration.scene_names)), np.uint8)
        for users in (0, 3):
            found = person_columns(declaration, user_view(layout, layout.empty(users), 10), scene[:users])
            assert found.shape == (users, width(declaration))
            assert np.isfinite(found).all()


def made_heads(hidden: int = 4, seed: int = 0) -> Heads:
    """Heads with everything learned."""
    rng, own = np.random.default_rng(seed), width(DEFAULT)

    def side(columns: int) -> Side:
        return Side("learned", -2.0, 900, 90, rng.normal(size=columns), np.ones(columns), rng.normal(size=columns) / 9)

    size = count(DEFAULT)
    calibrated = [CellCalibration(rng.uniform(0.5, 2, size), rng.normal(size=size)) for _ in range(2)]
    grading = Grading(np.array([1.0, 0.3]), np.array([-2.0, -1.0]), rng.normal(size=(hidden, 2)), of_item=False)
    return Heads(
        grading, Cutoffs(0.1, 0.2), (calibrated[0], calibrated[1]),
        opens=side(own + 1), opts_out=side(own), comes=side(own),
    )  # fmt: skip


def asked(users: int = 6, hidden: int = 4) -> Asked:
    rng = np.random.default_rng(5)
    drawn = rng.normal(size=(users, 3, hidden + 2)).astype(np.float32)
    share = (np.abs(drawn[..., 1]) / 10).astype(np.float32)
    return Asked(drawn[..., 0], drawn[..., 2:], share, strangers(users), scenes(users, hour=9, device=1))


def test_heads_are_read_back_as_they_were_written() -> None:
    for heads, hidden in ((made_heads(), 4), (Heads.untrained(1.2, -4.5), 0)):
        again = Heads.of(orjson.loads(orjson.dumps(heads.document())))
        question = asked(hidden=hidden)
        one, other = heads.answer(DEFAULT, question), again.answer(DEFAULT, question)
        for name in one._fields:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert again.fits(DEFAULT)


def test_numbers_that_are_missing_or_not_finite_are_refused() -> None:
    document = made_heads().document()
    document["grading"]["slope"] = [None, 1.0]
    with pytest.raises((TypeError, ValueError)):
        Heads.of(document)
    other = merge(DEFAULT, {"windows": {"2h": "2h"}})
    assert not made_heads().fits(other)


def test_before_any_training_chances_are_the_scores_own_and_the_priors() -> None:
    question = asked(hidden=0)
    found = Heads.untrained(1.2, -4.5).answer(DEFAULT, question)
    np.testing.assert_allclose(found.rec, sigmoid(1.2 * question.score - 4.5), rtol=1e-5)
    np.testing.assert_allclose(found.best, found.rec * question.share, rtol=1e-5)
    for chance, prior in ((found.opens, OPENS), (found.opts_out, OPTS_OUT), (found.anyway, COMES)):
        np.testing.assert_allclose(chance, prior.mean, rtol=1e-6)


def test_every_answer_is_a_chance_and_the_cascade_holds() -> None:
    found = made_heads().answer(DEFAULT, asked())
    for chance in (found.rec, found.best, found.opens, found.opts_out, found.anyway):
        assert chance.dtype == np.float32
        assert ((chance >= 0) & (chance <= 1)).all()
    assert (found.best <= found.rec).all()
    assert (found.anyway == found.anyway[:, :1]).all()
    assert (np.ptp(found.opens, axis=1) > 0).all()


def test_another_place_and_hour_has_another_calibration() -> None:
    question, heads = asked(), made_heads()
    elsewhere = question._replace(scene=scenes(6, hour=20, device=3))
    same, other = heads.answer(DEFAULT, question), heads.answer(DEFAULT, elsewhere)
    assert not np.allclose(same.rec, other.rec)
    plain = dataclasses.replace(heads, calibrations=None)
    np.testing.assert_allclose(plain.answer(DEFAULT, question).rec, plain.answer(DEFAULT, elsewhere).rec)


def test_logits_and_chances_are_each_others_inverse_within_the_bound() -> None:
    z = np.linspace(-25, 25, 101)
    np.testing.assert_allclose(logit(sigmoid(z)), z, atol=1e-3)
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
