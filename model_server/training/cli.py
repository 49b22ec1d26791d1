"""`kairos train`: learn the ranker from a log or from the topics, print how good it is, and write a bundle."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from model_server.training import reading
from model_server.training.progress import Bars
from streams.features.declaration import DEFAULT
from streams.features.features_file import load
from streams.service import settings
from streams.service.settings import Connections, setting, time_zone

if TYPE_CHECKING:
    from model_server.training.config import TrainConfig
    from model_server.training.recorded import Recorded
    from model_server.training.train import Trained
    from streams.features.declaration import Declaration

NEEDED = ("torch", "transformers", "safetensors")
"""Packages of the training that are looked for before a log is read."""


@dataclass(frozen=True)
class TrainSettings:
    """What `kairos train` reads from the environment."""

    connections: Connections
    features: Path | None = setting("KAIROS_FEATURES", "features.toml over the default declaration.", default=None)
    zone: str = setting("KAIROS_ZONE", "Time zone of users whose own is unknown.", default="UTC", check=time_zone)
    model_dir: str | None = setting("KAIROS_MODEL_DIR", "Folder of model bundles; made if need be.", default=None)
    text: Literal["auto", "none", "minilm", "e5"] = setting(
        "KAIROS_TEXT", "Back end for items' titles; auto = what is installed and fits them.", default="auto"
    )


def main(argv: list[str]) -> int:
    """Run the command; 0 when a bundle was written, 1 with a sentence on stderr when nothing could be learned."""
    from rich.console import Console

    arguments = _parser().parse_args(argv)
    console = Console()
    if reading.missing(arguments):
        return 1
    read = settings.read(TrainSettings, os.environ)
    folder = arguments.out or (Path(read.model_dir) if read.model_dir else None)
    if folder is None:
        print("Say where the bundle goes: --out DIR or KAIROS_MODEL_DIR.", file=sys.stderr)
        return 2
    declaration, bars = load(read.features) if read.features is not None else DEFAULT, Bars(console)
    for package in NEEDED:
        if find_spec(package) is None:
            raise ModuleNotFoundError(name=package)
    recorded = reading.recorded(arguments, read.connections, read.zone, declaration, bars)
    if recorded is None:
        return 1
    config = replace(_config(arguments), text=read.text, model_dir=folder)
    work = _go_on if arguments.incremental else _train
    return work(arguments, config, recorded, declaration, folder, bars)


def _train(
    arguments: argparse.Namespace,
    config: TrainConfig,
    recorded: Recorded,
    declaration: Declaration,
    folder: Path,
    bars: Bars,
) -> int:
    from model_server.text.back_end import TextError
    from model_server.training import report
    from model_server.training.train import TrainingError, train

    try:
        trained = train(recorded, declaration, config, bars)
    except (TrainingError, TextError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    told = report.report(trained, recorded, config.seed)
    _keep(arguments, trained, told, folder, bars, report.sentences(told))
    return 0


def _go_on(
    arguments: argparse.Namespace,
    config: TrainConfig,
    recorded: Recorded,
    declaration: Declaration,
    folder: Path,
    bars: Bars,
) -> int:
    """`--incremental`: 0 when the bundle passed its gate, 1 when nothing was learned or the gate holds it back."""
    from model_server.bundle import BundleError, load
    from model_server.model_folder import current_version
    from model_server.text.back_end import TextError
    from model_server.training import incremental_report, report
    from model_server.training.dataset import TrainingError
    from model_server.training.incremental import IncrementalConfig, go_on

    version = current_version(folder)
    if version is None:
        print(f"No bundle of {folder} is in force to go on from: run `kairos train` first.", file=sys.stderr)
        return 1
    try:
        continued = go_on(recorded, declaration, load(folder, version, declaration), IncrementalConfig(config), bars)
    except (TrainingError, BundleError, TextError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    facts = incremental_report.facts(continued, version)
    told = {**report.report(continued.trained, recorded, config.seed), "incremental": facts}
    arguments.no_promote |= bool(continued.why_not)
    _keep(arguments, continued.trained, told, folder, bars, incremental_report.sentences(facts))
    return int(bool(continued.why_not))


def _keep(
    arguments: argparse.Namespace, trained: Trained, told: dict[str, Any], folder: Path, bars: Bars, lines: list[str]
) -> None:
    """Write the bundle and the report, bring the bundle into force where it may, and say what it is worth."""
    from model_server.bundle import save
    from model_server.model_folder import make_current
    from model_server.training import card, report

    now_ms = time.time_ns() // 1_000_000
    bundle = report.bundle_of(trained, trained.dataset.declaration, told, now_ms)
    path = save(folder, bundle, card.files(bundle.version, told))
    if not arguments.no_promote:
        make_current(folder, bundle.version, "train", now_ms)
    bars.table(report.table(told))
    for line in lines:
        bars.says(line)
    _write(arguments.report, {"bundle": str(path), "version": bundle.version, **told})
    bars.says(f"Its card: {path / card.PAGE}.")
    bars.says(f"Wrote {path}, {'not in force: see `kairos models`' if arguments.no_promote else 'in force now'}.")


def _config(arguments: argparse.Namespace) -> TrainConfig:
    from model_server.training.config import TrainConfig
    from model_server.training.requests import Split

    test = arguments.test if arguments.test is not None else (0.0 if arguments.events is None else 0.2)
    config = TrainConfig(
        seed=arguments.seed, split=Split(test=test), target=tuple(arguments.target or ()), device=arguments.device
    )
    config = config.quick if arguments.quick else config
    return replace(config, encoder=None) if arguments.no_encoder else config


def _write(path: Path | None, told: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kairos train",
        description="Learn the ranker from a behaviour log or from what the topics hold, and write a bundle.",
        epilog=settings.help_text(TrainSettings),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    reading.add_arguments(parser)
    parser.add_argument("--out", type=Path, help="folder of the bundles (else KAIROS_MODEL_DIR)")
    parser.add_argument(
        "--test", type=float, metavar="SHARE", help="newest share kept for the report (file .2, topics 0)"
    )
    parser.add_argument("--quick", action="store_true", help="within a minute: fewer lists, fewer passes")
    parser.add_argument(
        "--incremental", action="store_true", help="go on from the bundle in force with what is new, through a gate"
    )
    parser.add_argument("--no-promote", action="store_true", help="write the bundle and leave in force what is")
    parser.add_argument("--no-encoder", action="store_true", help="leave out the transformer stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write the report as JSON, e.g. build/train-shop.json"
    )
    return parser
