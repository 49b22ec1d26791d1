"""`kairos train --incremental`: goes on from the bundle in force, through the gate, and the better one is in force."""

import dataclasses
from pathlib import Path

import numpy as np
import orjson
import pytest

from model_server.bundle import Bundle, load, save
from model_server.model_folder import current_version, make_current
from model_server.training import report
from model_server.training.cli import main
from model_server.training.config import TrainConfig
from model_server.training.dataset import TrainingError
from model_server.training.incremental import Continued, IncrementalConfig, go_on
from model_server.training.progress import Silent
from model_server.training.recorded import Recorded, until
from model_server.training.requests import Split
from model_server.training.slices import Slicing
from model_server.training.train import train
from streams.features.declaration import DEFAULT
from tests.e2e.test_training import write_log
from tests.shoplog import recorded

TINY = dataclasses.replace(
    TrainConfig(split=Split(test=0.0)).quick, lists=400, valid=120, width=40, hidden=16, threads=1, encoder=None
)
CONFIG = IncrementalConfig(TINY, Slicing(gate_least=80))


@pytest.fixture(scope="module")
def log() -> Recorded:
    return recorded(11, users=25, items=80, events=2_500)


@pytest.fixture(scope="module")
def first(log: Recorded) -> Bundle:
    part = until(log, int(log.columns.ts_ms[1_400]))
    trained = train(part, DEFAULT, TINY, Silent())
    made = report.bundle_of(trained, DEFAULT, report.report(trained, part, 0), 0)
    assert made.weights is not None, "the small log is one on which the net is above the blend"
    return made


@pytest.fixture(scope="module")
def continued(log: Recorded, first: Bundle) -> Continued:
    return go_on(log, DEFAULT, first, CONFIG, Silent())


def weights(continued: Continued) -> bytes:
    return b"".join(part.numpy().tobytes() for part in continued.trained.net.state_dict().values())


def test_it_learned_something_and_says_from_what(log: Recorded, first: Bundle, continued: Continued) -> None:
    assert first.weights is not None
    before = b"".join(part.tobytes() for part in first.weights.values())
    assert weights(continued) != before
    assert continued.new >= 60
    assert 0 < continued.replayed <= continued.new
    assert set(first.words.tolist()) < set(continued.trained.preparation.words.tolist())
    told = report.report(continued.trained, log, 0)
    again = report.bundle_of(continued.trained, DEFAULT, told, 1)
    assert again.report["learned_until_ms"] > first.report["learned_until_ms"]


def test_what_it_is_judged_by_taught_it_nothing(log: Recorded, first: Bundle, continued: Continued) -> None:
    # Everybody takes something else from the gate on: what was learned stays the same to the bit.
    start = int(np.searchsorted(log.columns.ts_ms, continued.gate.since_ms))
    item = log.item.copy()
    item[start:] = item[start:][::-1]
    other = go_on(dataclasses.replace(log, item=item), DEFAULT, first, CONFIG, Silent())
    if other.gate.since_ms == continued.gate.since_ms:
        assert weights(other) == weights(continued)
    assert other.gate != continued.gate


def test_a_step_that_ruins_the_ranker_is_held_back(log: Recorded, first: Bundle) -> None:
    wild = dataclasses.replace(CONFIG, stage=dataclasses.replace(CONFIG.stage, rate=30.0, slower=1.0))
    assert go_on(log, DEFAULT, first, wild, Silent()).why_not


def test_a_blend_is_nothing_to_go_on_from(log: Recorded, first: Bundle) -> None:
    blend = dataclasses.replace(first, weights=None, shape=None)
    with pytest.raises(TrainingError, match=r"serves with the blend.*train anew"):
        go_on(log, DEFAULT, blend, CONFIG, Silent())
    with pytest.raises(TrainingError, match="does not say until when"):
        go_on(log, DEFAULT, dataclasses.replace(first, report={}), CONFIG, Silent())


def test_the_command_goes_on_from_what_is_in_force(
    tmp_path: Path, first: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    events, mapping = write_log(tmp_path)
    models, told = tmp_path / "models", tmp_path / "told.json"
    command = ["--events", f"{events}", "--map", f"{mapping}", "--out", f"{models}", "--report", f"{told}", "--quick"]
    assert main([*command, "--incremental"]) == 1
    assert "run `kairos train` first" in capsys.readouterr().err
    save(models, first)
    make_current(models, first.version, "train", 0)
    code = main([*command, "--incremental"])
    shown = " ".join(capsys.readouterr().out.split())
    written = orjson.loads(told.read_bytes())
    assert f"Went on from {first.version}" in shown
    assert "that neither learned from: NDCG@10" in shown
    assert load(models, written["version"], DEFAULT).report["incremental"]["on"] == first.version
    in_force = first.version if code else written["version"]
    assert current_version(models) == in_force
    assert bool(code) == bool(written["incremental"]["refused"])
    assert ("Not promoted" in shown) == bool(code)
