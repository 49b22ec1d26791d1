"""A training that was interrupted goes on to the end that it would have come to."""

import dataclasses
from pathlib import Path

import pytest

from model_server.training.checkpoints import FOLDER
from model_server.training.config import TrainConfig
from model_server.training.progress import Silent
from model_server.training.recorded import Recorded
from model_server.training.requests import Split
from model_server.training.train import Trained, train
from streams.features.declaration import DEFAULT
from tests.trained import small_log, weights

CONFIG = dataclasses.replace(
    TrainConfig(split=Split(test=0.0)).quick, lists=200, valid=100, width=30, hidden=16, threads=1
)
CONFIG = dataclasses.replace(CONFIG, net=dataclasses.replace(CONFIG.net, passes=3))
PASSES = [("linear", 1), ("linear", 2), ("linear", 3), *(("counter net", n) for n in (1, 2, 3)), ("encoder", 1)]


class Told(Silent):
    """Notes every pass, and is interrupted after the `last` of them."""

    def __init__(self, last: int | None = None) -> None:
        self.passes: list[tuple[str, int]] = []
        self.last = last

    def says(self, text: str) -> None:
        if " pass " not in text:
            return
        stage, _, rest = text.partition(" pass ")
        self.passes.append((stage.strip(), int(rest.split()[0])))
        if len(self.passes) == self.last:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def log() -> Recorded:
    return small_log()


@pytest.fixture(scope="module")
def whole(log: Recorded) -> Trained:
    return train(log, DEFAULT, CONFIG, Silent())


def interrupted(log: Recorded, config: TrainConfig, last: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(log, DEFAULT, config, Told(last))


@pytest.mark.parametrize("last", [2, 3, 5, 7])
def test_an_interrupted_training_ends_with_the_same_weights(
    last: int, log: Recorded, whole: Trained, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, model_dir=tmp_path)
    interrupted(log, config, last)
    told = Told()
    again = train(log, DEFAULT, config, told)
    assert told.passes == PASSES[last:]
    assert weights(again) == weights(whole)
    assert again.judgements == whole.judgements
    assert not (tmp_path / FOLDER).exists()


def test_one_of_other_settings_or_another_seed_or_a_broken_file_begins_anew(log: Recorded, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, encoder=None, model_dir=tmp_path)
    for other in (dataclasses.replace(config, seed=1), dataclasses.replace(config, width=20), config):
        interrupted(log, config, 4)
        if other == config:
            for path in (tmp_path / FOLDER).iterdir():
                path.write_bytes(path.read_bytes()[:-100])
        told = Told()
        train(log, DEFAULT, other, told)
        assert told.passes == PASSES[:-1]
