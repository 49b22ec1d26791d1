"""`kairos evaluate` on a small made-up shop: every ranker by one harness, the same numbers again, pages and plots."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from deploy import cli, extras
from model_server.evaluation.cli import main
from model_server.evaluation.harness import EvaluateConfig, Evaluation, EvaluationError, evaluate
from model_server.evaluation.page import page
from model_server.evaluation.rankers import BASELINES, rankers
from model_server.evaluation.report import report
from model_server.training.config import TrainConfig
from model_server.training.progress import Silent
from model_server.training.recorded import Recorded
from model_server.training.requests import Split
from streams.features.declaration import DEFAULT
from tests.e2e.test_training import write_log
from tests.shoplog import recorded

pytestmark = pytest.mark.timeout(400)  # half a minute of work, on machines that do much else

TRAIN = dataclasses.replace(
    TrainConfig(split=Split(test=0.1)).quick, lists=200, valid=60, test=120, width=40, hidden=16, threads=1
)
SHORT = dataclasses.replace(TRAIN, net=dataclasses.replace(TRAIN.net, passes=2), encoder=None)
CONFIG = EvaluateConfig(SHORT, seeds=2, contrasts=60)
OURS = ["linear", "counter net"]
VARIANTS = ["counter net, no scene", "counter net, scene permuted", "counter net, scene of others"]


@pytest.fixture(scope="module")
def log() -> Recorded:
    return recorded(11, users=25, items=80, events=1_600)


@pytest.fixture(scope="module")
def found(log: Recorded) -> Evaluation:
    return evaluate(log, DEFAULT, rankers(CONFIG, None, None), CONFIG, Silent())


@pytest.fixture(scope="module")
def told(found: Evaluation) -> dict[str, Any]:
    return report(found, "shop", None)


def test_every_ranker_is_judged_at_the_same_requests(found: Evaluation, told: dict[str, Any]) -> None:
    assert list(told["rankers"]) == [*BASELINES, "wide rank blend", *OURS, *VARIANTS]
    for outcome in found.outcomes.values():
        assert {values.shape for values in outcome.metrics.values()} == {(outcome.seeds, len(found.test))}
        assert all(0 <= value <= 1 for values in outcome.metrics.values() for value in values.flat)
        assert (outcome.metrics["ndcg@10"] <= found.recall + 1e-9)[:, found.test.wanted == 1].all()
    assert 0 < told["recall@200"] <= told["ceiling"] <= 1


def test_who_is_random_has_seeds_and_who_is_not_has_one(told: dict[str, Any]) -> None:
    seeds = {name: len(row["by seed"]) for name, row in told["rankers"].items()}
    random = {"LightGBM lambdarank", *OURS, *VARIANTS}
    assert seeds == {name: 2 if name in random else 1 for name in seeds}


def test_gains_are_paired_with_the_blend(found: Evaluation, told: dict[str, Any]) -> None:
    assert told["rankers"]["wide rank blend"]["over blend"]["ndcg@10"]["gain"] == 0
    for row in told["rankers"].values():
        over = row["over blend"]["ndcg@10"]
        assert over["low"] <= over["gain"] <= over["high"]
        blend = found.outcomes["wide rank blend"].metrics["ndcg@10"].mean()
        assert over["gain"] == pytest.approx(row["ndcg@10"] - blend)


def test_the_chances_of_the_blend_and_of_our_last_stage_are_judged(told: dict[str, Any]) -> None:
    assert list(told["chances"]) == ["wide rank blend", OURS[-1]]
    for found in told["chances"].values():
        assert found["measured on"] == "test"
        assert found["calibrated"]["candidates"] == found["uncalibrated"]["candidates"] > 1_000
        assert set(found["calibrated"]["field ece"]) == {"platform", "slot"}
        assert sum(grade["share"] for grade in found["grades"].values()) == pytest.approx(1)
    shown = page(told, {}, "kairos evaluate")
    assert "## How true the chances are" in shown
    assert "| counter net | calibrated |" in shown


def test_a_learned_ranker_is_above_what_knows_nothing_of_the_user(told: dict[str, Any]) -> None:
    rows = told["rankers"]
    for name in ("linear", "LightGBM lambdarank"):
        assert rows[name]["ndcg@10"] > 1.2 * rows["popularity"]["ndcg@10"]


def test_who_does_not_see_the_scene_tells_no_scenes_apart(told: dict[str, Any]) -> None:
    context = told["context auc"]
    assert {"hour", "device"} <= set(context["linear"])
    assert all(cell["auc"] == 0.5 for cell in context["counter net, no scene"].values())
    assert any(cell["auc"] != 0.5 for cell in context["counter net"].values())


def test_the_parts_are_compared(told: dict[str, Any]) -> None:
    compared = {(pair["of"], pair["over"]) for pair in told["compared"]}
    assert ("counter net", "linear") in compared
    for placebo in ("counter net, scene permuted", "counter net, scene of others"):
        assert {(placebo, "counter net, no scene"), ("counter net", placebo)} <= compared
    assert ("counter net", "LightGBM lambdarank") in compared


def test_a_transformer_that_its_guard_did_not_keep_ranks_as_the_counter_net(log: Recorded) -> None:
    train = dataclasses.replace(SHORT, encoder=TRAIN.encoder, lists=100, valid=30, test=30)
    config = EvaluateConfig(train, seeds=1, scene=False, contrasts=30)
    outcomes = evaluate(log, DEFAULT, rankers(config, [], None), config, Silent()).outcomes
    assert list(outcomes) == ["wide rank blend", *OURS, "counter net + transformer"]
    net, whole = outcomes["counter net"], outcomes["counter net + transformer"]
    alike = [(net.metrics[name] == whole.metrics[name]).all() for name in net.metrics]
    assert all(alike) or whole.chosen[0]["pass kept"] > 0
    assert whole.valid >= net.valid


def test_the_page_names_every_ranker_and_says_what_was_measured(told: dict[str, Any]) -> None:
    text = page(told, {"A plot": Path("a.png")}, "kairos evaluate")
    for words in (
        *told["rankers"],
        "ceiling",
        "Context AUC",
        "cold",
        "![A plot](a.png)",
        told["split"]["test from"][:10],
    ):
        assert words in text


def test_the_same_seed_gives_the_same_numbers(log: Recorded) -> None:
    config = dataclasses.replace(CONFIG, seeds=1, scene=False)
    named = ["popularity", "EASE", "LightGBM lambdarank"]
    one, two = (evaluate(log, DEFAULT, rankers(config, named, None), config, Silent()) for _ in range(2))
    assert list(one.outcomes) == [*named, "wide rank blend", "linear", "counter net"]
    assert not one.placebos
    for name, outcome in one.outcomes.items():
        for metric, values in outcome.metrics.items():
            np.testing.assert_array_equal(values, two.outcomes[name].metrics[metric])


def test_a_baseline_of_no_such_name_is_a_sentence() -> None:
    with pytest.raises(EvaluationError, match="'popular' is no baseline; known are popularity, popularity 1 h"):
        rankers(CONFIG, ["popular"], None)


def test_the_command_writes_report_page_and_plots_and_judges_a_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from model_server.training.cli import main as train

    events, mapping = write_log(tmp_path)
    source = ["--events", f"{events}", "--map", f"{mapping}", "--quick", "--no-encoder"]
    assert train([*source, "--out", f"{tmp_path / 'models'}", "--until", "2023-11-19"]) == 0
    out = tmp_path / "build" / "evaluate"
    command = [*source, "--out", f"{out}", "--no-scene", "--seeds", "1", "--bundle", f"{tmp_path / 'models'}"]
    assert main([*command, "--baselines", "popularity 1 h", "user frequency"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    told = orjson.loads((out / "report.json").read_bytes())
    bundle = list(told["rankers"])[-1]
    assert bundle.startswith("bundle 2")
    assert told["warnings"] == []
    assert told["rankers"][bundle]["ndcg@10"] > told["rankers"]["popularity 1 h"]["ndcg@10"]
    for words in ("wide rank blend", "Recall of the candidates", "counter net over linear", "Wrote"):
        assert words in shown
    written = (out / "report.md").read_text("utf-8")
    for plot in out.glob("*.png"):
        assert plot.read_bytes().startswith(b"\x89PNG")
        assert f"]({plot.name})" in written
    assert {"rankers.png", "warm-cold.png"} <= {plot.name for plot in out.glob("*.png")}


def test_a_bundle_that_saw_the_test_is_told(found: Evaluation) -> None:
    outcome = dataclasses.replace(found.outcomes["popularity"], name="bundle x", chosen=[{"learned until": None}])
    seen = dataclasses.replace(found, outcomes={**found.outcomes, "bundle x": outcome})
    assert report(seen, "shop", None)["warnings"][0].startswith("bundle x may have learned from the test's own time")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--events", "nowhere.csv", "--map", "deskdrop"], "There is no file"),
        (["--events", "{log}", "--map", "nowhere.toml"], "neither a built-in mapping"),
        (["--events", "{log}", "--map", "deskdrop"], "has no column"),
        (["--events", "{log}", "--map", "{map}", "--until", "2023-11-14T22:30"], "too few to learn from"),
        (["--events", "{log}", "--map", "{map}", "--quick", "--test", "0"], "no request is left to test on"),
        (["--events", "{log}", "--map", "{map}", "--bundle", "{folder}"], "names no bundle"),
    ],
)
def test_what_cannot_be_judged_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    events, mapping = write_log(tmp_path)
    places = {"log": events, "map": mapping, "folder": tmp_path}
    assert main([*(argument.format(**places) for argument in arguments), "--out", f"{tmp_path / 'out'}"]) == 1
    assert words in " ".join(capsys.readouterr().err.split())


def test_without_the_extra_the_command_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda module: None if module == "lightgbm" else module)
    assert cli.main(["evaluate", "--help"]) == 1
    assert "The package lightgbm is missing (extra 'evaluate'). Type:\n  pip install " in capsys.readouterr().err
