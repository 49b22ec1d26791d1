"""`kairos train`: learn the ranker from a log or from the topics, print how good it is, and write a bundle."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from model_server.training import asked, curves, reading
from model_server.training.launch import in_company, launch
from model_server.training.progress import Bars
from streams.service import settings
from streams.service.arguments import whole_number
from streams.service.settings import setting

if TYPE_CHECKING:
    import argparse

    from model_server.training.config import TrainConfig
    from model_server.training.ranks import Ranks
    from model_server.training.recorded import Recorded
    from model_server.training.train import Trained
    from streams.features.declaration import Declaration

NEEDED = ("torch", "transformers", "safetensors")
"""Packages of the training that are looked for before a log is read."""


@dataclass(frozen=True)
class TrainSettings(asked.LearnSettings):
    """What `kairos train` reads from the environment."""

    model_dir: str | None = setting("KAIROS_MODEL_DIR", "Folder of model bundles; made if need be.", default=None)


class Task(NamedTuple):
    """What to learn from, how, and who is told of it."""

    recorded: Recorded
    declaration: Declaration
    config: TrainConfig
    bars: Bars
    drawn: curves.Curves | None


class Learned(NamedTuple):
    """A training, its report, what to say of it in lines, and whether it is held back from coming into force."""

    trained: Trained
    told: dict[str, Any]
    lines: list[str]
    held: bool = False


def main(argv: list[str]) -> int:
    """Run the command; 0 when a bundle was written, 1 when nothing was learned or a gate holds the bundle back."""
    arguments = _parsed(argv)
    if reading.missing(arguments):
        return 1
    read = settings.read(TrainSettings, os.environ)
    folder = arguments.out or (Path(read.model_dir) if read.model_dir else None)
    if folder is None:
        print("Say where the bundle goes: --out DIR or KAIROS_MODEL_DIR.", file=sys.stderr)
        return 2
    asked.look_for(NEEDED if arguments.tensorboard is None else (*NEEDED, *curves.NEEDED))
    if in_company():
        return _together(arguments, read, folder)
    if arguments.processes > 1:
        return launch((sys.executable, *sys.orig_argv[1:]), arguments.processes)
    return _train(arguments, read, folder)


def _together(arguments: argparse.Namespace, read: TrainSettings, folder: Path) -> int:
    """As one of several: the first does everything, the others take part in the fit. Raises RanksError."""
    from model_server.training.plan import assist
    from model_server.training.ranks import joined

    with joined(arguments.device) as ranks:
        if ranks.rank == 0:
            return _train(arguments, read, folder, ranks)
        assist(ranks, arguments.device)
    return 0


def _train(arguments: argparse.Namespace, read: TrainSettings, folder: Path, ranks: Ranks | None = None) -> int:
    from rich.console import Console

    declaration, bars = read.declaration, Bars(Console())
    recorded = reading.recorded(arguments, read.connections, read.zone, declaration, bars)
    if recorded is None:
        return 1
    test = arguments.test if arguments.test is not None else (0.0 if arguments.events is None else 0.2)
    config = asked.config(arguments, test)
    config = replace(config, text=read.text, model_dir=folder, precision=arguments.precision)
    drawn = None if arguments.tensorboard is None else curves.Curves(arguments.tensorboard, _now())
    learned = _learned(
        Task(recorded, declaration, config, bars, drawn), folder if arguments.incremental else None, ranks
    )
    if learned is None:
        return 1
    if drawn is not None:
        drawn.finished(learned.told, learned.lines, config)
    _keep(learned, folder, bars, arguments.report, promote=not (arguments.no_promote or learned.held))
    return int(learned.held)


def _learned(task: Task, before: Path | None, ranks: Ranks | None) -> Learned | None:
    """A training from nothing, or from the bundle in force in the folder `before`; None after saying why not."""
    from model_server.bundle import BundleError
    from model_server.text.back_end import TextError
    from model_server.training import report
    from model_server.training.train import TrainingError, train

    try:
        if before is not None:
            return _gone_on(task, before)
        trained = train(*task, ranks)
    except (TrainingError, BundleError, TextError, OSError) as error:
        print(error, file=sys.stderr)
        return None
    told = report.report(trained, task.recorded, task.config.seed)
    return Learned(trained, told, report.sentences(told))


def _gone_on(task: Task, folder: Path) -> Learned:
    """`--incremental`. Raises TrainingError, BundleError, TextError and OSError."""
    from model_server.bundle import BundleError, load
    from model_server.model_folder import current_version
    from model_server.training import incremental_report, report
    from model_server.training.incremental import IncrementalConfig, go_on

    recorded, declaration, config, bars, drawn = task
    version = current_version(folder)
    if version is None:
        message = f"No bundle of {folder} is in force to go on from: run `kairos train` first."
        raise BundleError(message)
    bundle = load(folder, version, declaration)
    continued = go_on(recorded, declaration, bundle, IncrementalConfig(config), bars, drawn)
    facts = incremental_report.facts(continued, version)
    told = {**report.report(continued.trained, recorded, config.seed), "incremental": facts}
    return Learned(continued.trained, told, incremental_report.sentences(facts), held=bool(continued.why_not))


def _keep(learned: Learned, folder: Path, bars: Bars, to: Path | None, *, promote: bool) -> None:
    """Write the bundle and the report, bring the bundle into force where it may, and say what it is worth."""
    from model_server.bundle import save
    from model_server.model_folder import make_current
    from model_server.training import card, report

    trained, told, now_ms = learned.trained, learned.told, time.time_ns() // 1_000_000
    bundle = report.bundle_of(trained, trained.dataset.declaration, told, now_ms)
    path = save(folder, bundle, card.files(bundle.version, told))
    if promote:
        make_current(folder, bundle.version, "train", now_ms)
    bars.table(report.table(told))
    for line in learned.lines:
        bars.says(line)
    _write(to, {"bundle": str(path), "version": bundle.version, **told})
    bars.says(f"Its card: {path / card.PAGE}.")
    bars.says(f"Wrote {path}, {'in force now' if promote else 'not in force: see `kairos models`'}.")


def _write(path: Path | None, told: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))


def _now() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def _parsed(argv: list[str]) -> argparse.Namespace:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.incremental and (arguments.processes > 1 or in_company()):
        parser.error("--incremental learns from little, in one process")
    return arguments


def _parser() -> argparse.ArgumentParser:
    about = "Learn the ranker from a behaviour log or from what the topics hold, and write a bundle."
    made = asked.parser("train", about, TrainSettings, quick="within a minute: fewer lists, fewer passes")
    made.add_argument("--out", type=Path, help="folder of the bundles (else KAIROS_MODEL_DIR)")
    made.add_argument(
        "--test", type=float, metavar="SHARE", help="newest share kept for the report (file .2, topics 0)"
    )
    made.add_argument(
        "--incremental", action="store_true", help="go on from the bundle in force with what is new, through a gate"
    )
    made.add_argument("--no-promote", action="store_true", help="write the bundle and leave in force what is")
    made.add_argument(
        "--report", type=Path, metavar="FILE", help="write the report as JSON, e.g. build/train-shop.json"
    )
    made.add_argument("--tensorboard", type=Path, metavar="FOLDER", help="write its curves there, for TensorBoard")
    made.add_argument(
        "--processes", type=whole_number, default=1, metavar="N", help="of this machine, each with a device of its own"
    )
    made.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="numbers it learns in: on a CPU auto is float32, on CUDA 16 bits beside float32",
    )
    return made
