"""What `kairos train` and `kairos evaluate` are asked alike: settings, options, and the training that these mean."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from model_server.training import reading
from streams.features.declaration import DEFAULT, Declaration
from streams.features.features_file import load
from streams.service import arguments
from streams.service.settings import Connections, setting, time_zone

if TYPE_CHECKING:
    from model_server.training.config import TrainConfig


@dataclass(frozen=True)
class LearnSettings:
    """What both read from the environment."""

    connections: Connections
    features: Path | None = setting("KAIROS_FEATURES", "features.toml over the default declaration.", default=None)
    zone: str = setting("KAIROS_ZONE", "Time zone of users whose own is unknown.", default="UTC", check=time_zone)
    text: Literal["auto", "none", "minilm", "e5"] = setting(
        "KAIROS_TEXT", "Back end for items' titles; auto = what is installed and fits them.", default="auto"
    )

    @property
    def declaration(self) -> Declaration:
        """That of the features file, where there is one."""
        return load(self.features) if self.features is not None else DEFAULT


def parser(name: str, about: str, cls: type[LearnSettings], *, quick: str) -> argparse.ArgumentParser:
    """The parser of `kairos NAME` with what both know; `quick` says how long --quick takes."""
    made = arguments.parser(name, about, cls)
    reading.add_arguments(made)
    made.add_argument("--quick", action="store_true", help=quick)
    made.add_argument("--no-encoder", action="store_true", help="leave out the transformer stage")
    made.add_argument("--seed", type=int, default=0, help="of all that is drawn (%(default)s)")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return made


def look_for(packages: Sequence[str]) -> None:
    """Raises ModuleNotFoundError for the first package that is not installed, before a log is read."""
    for package in packages:
        if find_spec(package) is None:
            raise ModuleNotFoundError(name=package)


def config(typed: argparse.Namespace, test: float) -> TrainConfig:
    """The training that the options mean, with so large a share of the newest requests kept apart."""
    from model_server.training.config import TrainConfig
    from model_server.training.requests import Split

    made = TrainConfig(seed=typed.seed, split=Split(test=test), target=tuple(typed.target or ()), device=typed.device)
    made = made.quick if typed.quick else made
    return replace(made, encoder=None) if typed.no_encoder else made
