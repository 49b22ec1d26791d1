"""What TensorBoard reads of a training: a point on every curve for every pass, and what it came to."""

import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deploy import cli
from model_server.training import asked
from model_server.training.config import TrainConfig
from model_server.training.curves import Curves
from model_server.training.stages import Passed

HEADS = {"calibrated": {"ece": 0.01, "auc": 0.9, "field ece": {"device": 0.2}, "reliability": []}, "uncalibrated": {}}
TOLD = {"rankers": {"counter net": {"valid": {"ndcg@10": 0.4, "mrr": 0.3}}}, "heads": HEADS}


def read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(f"{folder}")
    found.Reload()
    return found


@pytest.fixture
def curves(tmp_path: Path) -> Curves:
    return Curves(tmp_path / "curves", "20261130T100000Z")


def test_every_pass_is_a_point_on_every_curve_of_its_stage(curves: Curves, tmp_path: Path) -> None:
    for epoch in (1, 2):
        curves.passed(Passed("counter net", epoch, 2, 2 / epoch, 0.25 * epoch, 0.002, 0.5))
    curves.finished(TOLD, ["All is well."], TrainConfig())
    found = read(tmp_path / "curves" / "20261130T100000Z")
    for tag, values in (
        ("loss/counter_net", [2, 1]),
        ("NDCG_10_on_valid/counter_net", [0.25, 0.5]),
        ("learning_rate/counter_net", [0.002, 0.002]),
        ("gradient_norm/counter_net", [0.5, 0.5]),
    ):
        points = found.Scalars(tag)
        assert [point.step for point in points] == [1, 2]
        assert [point.value for point in points] == pytest.approx(values)


def test_what_it_came_to_is_there_as_figures_and_in_words(curves: Curves) -> None:
    gate = {"incremental": {"gate": {"ndcg": 0.5, "ece_in_force": 0.25, "why_not": "", "since_ms": 5}}}
    curves.finished({**TOLD, **gate}, ["All is well.", "It is."], TrainConfig(seed=7))
    found = read(curves.folder)
    tags = {"heads_ece/calibrated", "heads_auc/calibrated"}
    tags |= {"rankers_ndcg_10_on_valid/counter_net", "rankers_mrr_on_valid/counter_net"}
    tags |= {"gate_ndcg/incremental", "gate_ece_in_force/incremental"}
    assert set(found.Tags()["scalars"]) == tags
    assert found.Scalars("heads_ece/calibrated")[0].value == pytest.approx(0.01)
    tensors = {tag: found.Tensors(f"{tag}/text_summary") for tag in ("report", "settings")}
    words = {tag: written[0].tensor_proto.string_val[0].decode() for tag, written in tensors.items()}
    assert words["report"] == "All is well.\n\nIt is."
    assert '"seed": 7' in words["settings"]


def test_what_is_not_known_is_no_point(curves: Curves) -> None:
    curves.passed(Passed("linear", 1, 3, 0.5, math.nan, 0.02, math.nan, again=True))
    curves.finished({"rankers": {}, "heads": None}, [], TrainConfig())
    assert set(read(curves.folder).Tags()["scalars"]) == {"loss/linear", "learning_rate/linear"}


def test_without_the_package_the_line_to_type_comes_before_a_log_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asked, "find_spec", lambda name: None if name == "tensorboard" else name)
    monkeypatch.setenv("KAIROS_KAFKA", "127.0.0.1:1")
    assert cli.main(["train", "--out", f"{tmp_path}", "--tensorboard", f"{tmp_path / 'curves'}"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("The package tensorboard is missing (extra 'train'). Type:\n  pip install ")
    assert not (tmp_path / "curves").exists()
