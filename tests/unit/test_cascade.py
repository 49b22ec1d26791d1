"""The fit of the heads: planted chances are found again, and who opens a push; what the log does not tell is said."""

import dataclasses

import numpy as np
import orjson
import pytest
import torch
from numpy.typing import NDArray

from model_server.blend import default_blend
from model_server.heads.heads import Heads
from model_server.heads.logistic import sigmoid
from model_server.heads.sides import OPENS
from model_server.selection import Calibration
from model_server.training.cascade import HeadSettings, Taught, fit_cascade
from model_server.training.config import TrainConfig
from model_server.training.dataset import Dataset, build_dataset
from model_server.training.heads import BY_CELL, COMMON, NONE, Graded, Step, fit_heads, guarded
from model_server.training.heads_told import sentences
from model_server.training.progress import Silent
from model_server.training.recorded import RawEvent, Recorded, record
from model_server.training.requests import Split
from model_server.training.sides import fit_sides, learned
from model_server.training.train import scorer_of
from streams.features.declaration import DEFAULT
from tests.shoplog import raw_events

TINY = dataclasses.replace(
    TrainConfig(split=Split(test=0.2)).quick, lists=250, valid=120, test=150, width=40, encoder=None,
    heads=HeadSettings(window_ms=2 * 3_600_000),
)  # fmt: skip
PUSH_MS = 60_000
F64 = NDArray[np.float64]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def planted(candidates: int = 60_000) -> tuple[Taught, F64, F64]:
    """Candidates whose chances follow the score and one hidden number, and the true chances."""
    rng = np.random.default_rng(0)
    score = rng.normal(size=candidates).astype(np.float32)
    hidden = rng.normal(1, 3, (candidates, 4)).astype(np.float32)
    rec = sigmoid(1.5 * score + 0.3 * hidden[:, 2] - 3)
    strongly = sigmoid(0.5 * score - 0.2 * hidden[:, 1])
    acted = rng.random(candidates) < rec
    grade = np.where(acted, np.where(rng.random(candidates) < strongly, 1.0, 0.5), 0.0)
    return Taught(score, hidden, grade, np.ones(candidates), np.ones(candidates), best=True), rec, rec * strongly


@pytest.mark.parametrize(("entropy", "squared"), [(1, 0), (1, 0.5), (0, 1)])
def test_planted_chances_are_found_by_each_objective(entropy: float, squared: float) -> None:
    taught, rec, best = planted()
    grading = fit_cascade(taught, HeadSettings(entropy=entropy, squared=squared))
    first, second = grading(taught.score, taught.hidden, np.zeros(len(rec), np.float32))
    assert np.abs(sigmoid(first) - rec).mean() < (0.01 if entropy else 0.03)
    assert np.abs(sigmoid(first) * sigmoid(second) - best).mean() < (0.01 if entropy else 0.03)


def test_candidates_that_stand_for_many_have_the_chances_of_all_of_them() -> None:
    taught, rec, _ = planted()
    kept = (taught.grade > 0) | (np.random.default_rng(1).random(len(rec)) < 0.25)
    weight = np.where(taught.grade > 0, 1.0, 4.0)
    thinned = Taught(
        taught.score[kept], taught.hidden[kept], taught.grade[kept], weight[kept], taught.omega[kept], True
    )
    plain = thinned._replace(weight=np.ones(kept.sum()))
    fits = [fit_cascade(part, HeadSettings()) for part in (thinned, plain)]
    chances = [sigmoid(found(taught.score, taught.hidden, taught.score)[0]) for found in fits]
    assert chances[0].mean() == pytest.approx(rec.mean(), rel=0.03)
    assert chances[1].mean() > 1.5 * rec.mean()


def step_of(rng: np.random.Generator, slopes: list[float], shifts: list[float]) -> Step:
    """400 requests of 40 candidates; z is true but for a slope and shift of each hundred requests in turn."""
    request = np.repeat(np.arange(400), 40)
    z = rng.normal(-2, 1.5, len(request))
    part = request // 100
    label = rng.random(len(z)) < sigmoid(np.array(slopes)[part] * z + np.array(shifts)[part])
    return Step(z, label.astype(np.float64), request % 2, request)


def test_a_calibration_that_holds_is_kept_and_one_that_moves_is_not() -> None:
    rng = np.random.default_rng(0)
    steady, how = guarded(step_of(rng, [0.5] * 4, [-1.0] * 4), 2)
    assert how in {COMMON, BY_CELL}
    assert steady.slope[0] == pytest.approx(0.5, rel=0.2)
    moved, how = guarded(step_of(rng, [1.0] * 4, [-1.5, -1.5, 0.0, 0.0]), 2)
    assert how == NONE
    assert (moved.slope.tolist(), moved.shift.tolist()) == ([1, 1], [0, 0])


def test_cells_that_differ_have_calibrations_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    whole = step_of(rng, [1.0] * 4, [0.0] * 4)
    label = rng.random(len(whole.z)) < sigmoid(whole.z + np.where(whole.cell == 1, 1.5, -1.5))
    step = whole._replace(label=label.astype(np.float64))
    found, how = guarded(step, 2)
    assert how == BY_CELL
    monkeypatch.setattr("model_server.heads.cells.SHRINK", 0.0)
    alone, _ = guarded(step, 2)
    apart, drawn = (float(c.shift[1] - c.shift[0]) for c in (alone, found))
    assert apart == pytest.approx(3, abs=0.3)
    assert 0.3 * apart < drawn < 0.8 * apart, "each is drawn to the other"


def test_a_side_head_that_is_no_better_than_the_rate_on_the_newest_cases_is_a_rate() -> None:
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(1_000, 3))
    turned = np.where(np.arange(1_000) < 800, columns[:, 0], -columns[:, 0]) > 0
    for label, how in ((columns[:, 0] > 0, "learned"), (turned, "rate")):
        side, told = learned(columns, label.astype(np.float64), OPENS)
        assert (side.how, told["how"], side.positive) == (how, how, label.sum())
        assert (told["judged"]["logloss"] < told["judged"]["logloss of the rate"]) == (how == "learned")
        assert (side.width is None) == (how == "rate")


def events_with_pushes() -> list[RawEvent]:
    """The small log, and a push to a user every hour; those with an even number open what they get, mostly."""
    events, rng = raw_events(11, users=25, items=80, events=2_500), np.random.default_rng(0)
    told = [orjson.loads(event.value or b"{}") for event in events]
    start_ms, end_ms = told[0]["ts_ms"], told[-1]["ts_ms"]
    pushes: list[RawEvent] = []

    def report(kind: str, user: int, item: str, ts_ms: int) -> None:
        value = {"user_id": f"u{user}", "item_id": item, "kind": kind, "ts_ms": ts_ms}
        pushes.append(RawEvent("feedback", f"u{user}".encode(), orjson.dumps(value)))

    last: dict[str, str] = {}
    for event in told:
        last[event["user_id"]] = event["item_id"]
        if rng.random() < 0.4 and start_ms + (end_ms - start_ms) / 4 < event["ts_ms"]:
            user = int(event["user_id"][1:])
            item = last[event["user_id"]]
            report("sent", user, item, event["ts_ms"] + PUSH_MS)
            if rng.random() < (0.8 if user % 2 == 0 else 0.02):
                report("opened", user, item, event["ts_ms"] + 2 * PUSH_MS)
    return [*events, *pushes]


def dataset_of(events: list[RawEvent]) -> Dataset:
    log: Recorded = record(events, {}, DEFAULT, "UTC")
    return build_dataset(log, DEFAULT, TINY, Silent())


def graded(dataset: Dataset) -> Graded:
    blend = default_blend(dataset.preparation.retriever.names)
    scorer = scorer_of(dataset, blend)
    found = fit_heads(dataset, scorer, Calibration(1.0, -4.0))
    sides, told = fit_sides(dataset, found.heads, scorer)
    return Graded(found.heads.with_sides(sides), {**found.told, "sides": told})


@pytest.fixture(scope="module")
def quiet() -> Graded:
    return graded(dataset_of(raw_events(11, users=25, items=80, events=2_500)))


@pytest.fixture(scope="module")
def told_of_pushes() -> Graded:
    return graded(dataset_of(events_with_pushes()))


def test_the_heads_of_a_log_are_calibrated_and_graded(quiet: Graded) -> None:
    told = quiet.told
    assert (told["acts"], told["best"], told["measured on"]) == ("learned", "learned", "test")
    assert told["calibrated"]["logloss"] < 1.02 * told["uncalibrated"]["logloss"]
    assert told["calibrated"]["auc"] > 0.6
    grades = told["grades"]
    assert sum(grade["share"] for grade in grades.values()) == pytest.approx(1)
    assert grades["recommended"]["acted"] > grades["not_recommended"]["acted"]
    assert quiet.heads.calibrations is not None


def test_without_feedback_opening_and_opting_out_are_assumed_and_coming_is_learned(quiet: Graded) -> None:
    sides = quiet.told["sides"]
    assert [sides[name]["how"] for name in ("opens", "opts_out")] == ["prior", "prior"]
    comes = sides["comes"]
    better = comes["judged"]["logloss"] < comes["judged"]["logloss of the rate"]
    assert comes["how"] == ("learned" if better else "rate")
    assert comes["cases"] > comes["positive"] > 100
    lines = "\n".join(sentences(quiet.told))
    assert "opens the push: the log tells nothing, so it is assumed: one push in twenty" in lines
    assert "comes anyway: " in lines
    again = Heads.of(orjson.loads(orjson.dumps(quiet.heads.document())))
    assert again.document() == quiet.heads.document()


def test_with_feedback_who_opens_is_learned_and_who_opts_out_is_a_rate(told_of_pushes: Graded) -> None:
    sides = told_of_pushes.told["sides"]
    assert (sides["opens"]["how"], sides["opts_out"]["how"]) == ("learned", "rate")
    assert sides["opens"]["judged"]["auc"] > 0.75
    assert sides["opens"]["judged"]["logloss"] < sides["opens"]["judged"]["logloss of the rate"]
    assert sides["opts_out"]["positive"] == 0
    assert "opts out after a push: 0 of" in "\n".join(sentences(told_of_pushes.told))


def test_a_log_of_one_strong_kind_has_one_chance_for_both_grades() -> None:
    purchases = [
        RawEvent("orders", event.key, orjson.dumps({**orjson.loads(event.value or b"{}"), "kind": "purchase"}))
        for event in raw_events(11, users=25, items=80, events=1_200)
    ]
    found = graded(dataset_of(purchases))
    assert found.told["best"] == "rate"
    assert found.told["calibrated"]["auc best"] == pytest.approx(found.told["calibrated"]["auc"])


def test_a_log_without_a_strong_kind_takes_the_share_of_the_item() -> None:
    clicks = [
        RawEvent("clicks", event.key, orjson.dumps({**orjson.loads(event.value or b"{}"), "kind": "click"}))
        for event in raw_events(11, users=25, items=80, events=1_200)
    ]
    found = graded(dataset_of(clicks))
    assert found.told["best"] == "share of the item"
    assert found.heads.grading.of_item
    assert found.told["grades"]["best_match"]["share"] == 0
