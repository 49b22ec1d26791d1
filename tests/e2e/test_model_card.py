"""The model card: what a training says of itself, by hour and scene, with counters muted, as page and picture."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from model_server.counters.groups import SCENE, counter_groups
from model_server.counters.names import default_names, scene_names
from model_server.evaluation.groups import FEW, by_value
from model_server.training import card, report
from model_server.training.breakdown import muted
from model_server.training.config import TrainConfig
from model_server.training.progress import Silent
from model_server.training.requests import Split
from model_server.training.train import Trained, train
from streams.features.declaration import DEFAULT, Window
from tests.trained import small_log

CONFIG = dataclasses.replace(
    TrainConfig(split=Split(test=0.2)).quick, lists=300, valid=120, test=150, width=40, encoder=None, threads=1
)


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(small_log(), DEFAULT, CONFIG, Silent())


@pytest.fixture(scope="module")
def told(trained: Trained) -> dict[str, Any]:
    return report.report(trained, trained.dataset.recorded, 0)


def test_every_counter_is_in_one_group() -> None:
    names = default_names()
    groups = counter_groups(DEFAULT, names)
    assert sorted(place for places in groups.values() for place in places) == list(range(len(names)))
    assert {names[place] for place in groups[SCENE]} >= set(scene_names(DEFAULT))
    assert "titles" not in groups
    assert "list_scene" in {names[place] for place in groups[SCENE]}


def test_a_new_window_reaches_the_groups_and_the_card(told: dict[str, Any]) -> None:
    wider = dataclasses.replace(DEFAULT, windows=(*DEFAULT.windows, Window("90d", 90 * 86_400_000)))
    places = counter_groups(wider, ["item_90d", "own_n"])
    assert places == {"items by themselves": [0], "the user's past with the item": [1]}
    assert f"Windows: {', '.join(window.name for window in DEFAULT.windows)}." in card.page("v", told, pictured=False)


def test_what_is_muted_costs_what_the_net_made_of_it(trained: Trained) -> None:
    assert trained.test is not None
    found = muted(trained, trained.test.examples, 0)
    assert found["requests"] == len(trained.test.examples)
    assert found["whole"] == pytest.approx(trained.test.value(trained.net))
    groups = found["groups"]
    assert max(groups, key=lambda group: groups[group]["loss"]) in {"the user's past with the item", "retrieval lists"}
    assert all(row["low"] <= row["loss"] <= row["high"] for row in groups.values())


def test_means_by_value_are_those_of_the_requests_with_it() -> None:
    scene = np.zeros((3 * FEW, len(DEFAULT.scene_names)), np.uint8)
    device = DEFAULT.scene_names.index("device")
    scene[: 2 * FEW, device] = np.arange(2 * FEW) % 2 + 1
    scene[2 * FEW :, device] = np.where(np.arange(FEW) == 0, 3, 0)
    values = np.arange(3.0 * FEW)
    table = by_value(DEFAULT, scene, "device", {"ours": values})
    assert {word: row["requests"] for word, row in table.items()} == {"phone": FEW, "tablet": FEW}
    assert table["phone"]["ours"] == values[: 2 * FEW : 2].mean()
    assert by_value(DEFAULT, scene, "hour", {"ours": values}) == {}


def test_the_page_tells_what_the_report_holds(told: dict[str, Any]) -> None:
    hours = {"08": {"requests": 1_234, told["final"]: 0.4321}}
    full = {**told, "breakdown": {**told["breakdown"], "by hour": hours}}
    page = card.page("20260101T000000Z-abc", full, pictured=True)
    for words in (
        "# Model card: 20260101T000000Z-abc",
        f"Serves with: **{told['served']}**",
        f"{told['rankers'][told['final']]['test']['ndcg@10']:.4f}",
        "![curves, reliability",
        "| scene and time |",
        f"| hour | requests | {told['final']} |",
        "| 08 | 1,234 | 0.4321 |",
        "Scene: device",
    ):
        assert words in page
    assert "card.png" not in card.page("v", told, pictured=False)


def test_the_picture_is_the_same_for_the_same_numbers_and_another_for_others(told: dict[str, Any]) -> None:
    drawn = card.files("v", told)[card.PICTURE]
    assert drawn.startswith(b"\x89PNG")
    assert drawn == card.draw(told)
    groups = {group: {"loss": 0.0, "low": 0.0, "high": 0.0} for group in told["breakdown"]["muted"]["groups"]}
    changed = {**told["breakdown"], "muted": {**told["breakdown"]["muted"], "groups": groups}}
    assert drawn != card.draw({**told, "breakdown": changed})


def test_a_training_that_kept_no_test_part_has_a_card_of_valid(trained: Trained) -> None:
    alone = dataclasses.replace(
        trained, test=None, scores={n: {"valid": p["valid"]} for n, p in trained.scores.items()}
    )
    told = report.report(alone, trained.dataset.recorded, 0)
    assert told["measured on"] == "valid"
    assert "of valid." in card.files("v", told)[card.PAGE].decode()
