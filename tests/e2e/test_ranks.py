"""Several processes of one training: the same net as one makes, each resumed as it was, and ended together."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model_server.bundle import load
from model_server.model_folder import current_version
from model_server.training.cli import main
from model_server.training.ranks import Ranks
from model_server.training.train import BLEND
from streams.features.declaration import DEFAULT
from tests.e2e.test_training import write_log
from tests.ranked import fit, launched, plan, without_chance

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ranks")
    ended = launched(made, "fits")
    assert ended.returncode == 0, ended.stderr
    return made


def weights(folder: Path, name: str, rank: int) -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}.{rank}.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_two_processes_learn_what_one_learns_from_the_batches_of_both(folder: Path) -> None:
    torch.set_num_threads(1)
    with without_chance(plan()) as still:
        alone = fit(Ranks(), still).state_dict()
    together = weights(folder, "still", 0)
    assert together.keys() == alone.keys()
    for name, part in alone.items():
        np.testing.assert_allclose(together[name].numpy(), part.numpy(), rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["still", "whole", "resumed"])
def test_both_processes_hold_the_same_net(folder: Path, name: str) -> None:
    assert same(weights(folder, name, 0), weights(folder, name, 1))


def test_each_process_drops_other_numbers(folder: Path) -> None:
    assert not same(weights(folder, "whole", 0), weights(folder, "still", 0))
    assert (folder / "drawn.0").read_text() != (folder / "drawn.1").read_text()


def test_both_go_on_from_what_the_first_one_kept(folder: Path) -> None:
    assert same(weights(folder, "resumed", 0), weights(folder, "whole", 0))
    told = (folder / "told.0").read_text()
    assert [line.rsplit(" ", 1)[0] for line in told.splitlines()] == ["linear 1", "counter net 1", "new", "encoder 1"]
    assert (folder / "told.1").read_text() == told


def test_where_one_dies_the_others_end_and_it_is_said(tmp_path: Path) -> None:
    began = time.monotonic()
    ended = launched(tmp_path, "dies")
    assert ended.returncode == 1
    assert "Process 1 of the 2 of this training was ended by SIGKILL, and the others with it." in ended.stderr
    assert "goes on from its last pass" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not [*tmp_path.glob("ended.*")]
    assert (tmp_path / "kept" / "linear.safetensors").exists()
    assert time.monotonic() - began < 200, "a hang is given up after ten minutes"


def trained(*options: str) -> subprocess.CompletedProcess[str]:
    """`kairos train` in two processes."""
    command = [sys.executable, "-m", "deploy.cli", "train", "--processes", "2", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)


def test_the_command_trains_in_two_processes_and_writes_one_bundle(tmp_path: Path) -> None:
    events, mapping = write_log(tmp_path)
    models, told, drawn = tmp_path / "models", tmp_path / "told.json", tmp_path / "curves"
    options = ["--events", f"{events}", "--map", f"{mapping}", "--out", f"{models}", "--report", f"{told}"]
    ended = trained(*options, "--quick", "--no-encoder", "--tensorboard", f"{drawn}")
    assert ended.returncode == 0, ended.stderr
    version = orjson.loads(told.read_bytes())["version"]
    assert current_version(models) == version
    assert [path.name for path in models.iterdir() if path.is_dir()] == [version]
    assert load(models, version, DEFAULT).report["served"] in ("linear", "counter net", BLEND)
    said = [line.split("  ")[0] for line in ended.stdout.splitlines() if " pass " in line and "NDCG" in line]
    assert len(said) == 3 + 5, "every pass is said once"
    (run,) = drawn.iterdir()
    curves = EventAccumulator(f"{run}")
    curves.Reload()
    assert [point.step for point in curves.Scalars("loss/counter_net")] == [1, 2, 3, 4, 5]
    assert "heads_ece/calibrated" in curves.Tags()["scalars"]


def test_a_log_of_too_little_ends_both_with_the_sentence_of_one(tmp_path: Path) -> None:
    events, mapping = write_log(tmp_path)
    events.write_bytes(b"\n".join(events.read_bytes().splitlines()[:5]))
    ended = trained("--events", f"{events}", "--map", f"{mapping}", "--out", f"{tmp_path / 'models'}")
    assert ended.returncode == 1
    assert ended.stderr.count("too few to learn from") == 1
    assert "Traceback" not in ended.stderr


def test_going_on_is_for_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--incremental", "--processes", "2"])
    assert "in one process" in capsys.readouterr().err
