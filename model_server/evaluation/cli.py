"""`kairos evaluate`: every ranker on one log, by one harness; JSON for machines, a page with plots for people.

With --planted the log is that of a shop whose truth is known, and claims are held against it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from model_server.training import asked, reading
from model_server.training.progress import Bars
from streams.features.declaration import DEFAULT
from streams.service import settings
from streams.service.arguments import whole_number

if TYPE_CHECKING:
    from model_server.bundle import Bundle
    from model_server.evaluation.harness import EvaluateConfig
    from model_server.text.back_end import Wish
    from model_server.training.config import TrainConfig
    from model_server.training.recorded import Recorded
    from streams.features.declaration import Declaration

NEEDED = ("torch", "transformers", "safetensors", "scipy", "lightgbm", "matplotlib")
"""Packages of an evaluation that are looked for before a log is read."""


def main(argv: list[str]) -> int:
    """Run the command; 0 when a report was written, 1 with a sentence on stderr when nothing could be judged."""
    from rich.console import Console

    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.planted and (arguments.events is not None or arguments.topics or arguments.bundle is not None):
        parser.error("--planted makes its own log and trains on it: leave out --events, --topics and --bundle")
    if reading.missing(arguments):
        return 1
    read = settings.read(asked.LearnSettings, os.environ)
    declaration, bars = read.declaration, Bars(Console())
    asked.look_for(NEEDED)
    if arguments.planted:
        return _prove(arguments, bars, shlex.join(["kairos", "evaluate", *argv]))
    recorded = reading.recorded(arguments, read.connections, read.zone, declaration, bars)
    if recorded is None:
        return 1
    return _evaluate(arguments, read.text, recorded, declaration, bars, shlex.join(["kairos", "evaluate", *argv]))


def _evaluate(
    arguments: argparse.Namespace,
    text: Wish,
    recorded: Recorded,
    declaration: Declaration,
    bars: Bars,
    command: str,
) -> int:
    from model_server.bundle import BundleError
    from model_server.evaluation.harness import EvaluationError, TrainingError, evaluate
    from model_server.evaluation.rankers import rankers
    from model_server.evaluation.report import commit, report
    from model_server.text.back_end import TextError

    config, sources = _config(arguments), commit()
    try:
        bundle = None if arguments.bundle is None else _bundle(arguments.bundle, declaration)
        config = replace(config, train=read_by(config.train, text, bundle))
        found = evaluate(recorded, declaration, rankers(config, arguments.baselines, bundle), config, bars)
    except (BundleError, EvaluationError, TextError, TrainingError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    name = "the topics" if arguments.events is None else arguments.events.name
    _write(arguments.out, report(found, name, sources), bars, command)
    return 0


def _prove(arguments: argparse.Namespace, bars: Bars, command: str) -> int:
    """0 when every claim holds, 1 when one does not."""
    from model_server.evaluation.harness import EvaluationError, TrainingError
    from model_server.evaluation.planted import Planting
    from model_server.evaluation.proof import prove
    from model_server.evaluation.report import commit
    from model_server.evaluation.table import claims

    try:
        proof = prove(Planting(), DEFAULT, _config(arguments), arguments.baselines or (), bars, commit())
    except (EvaluationError, TrainingError) as error:
        print(error, file=sys.stderr)
        return 1
    _write(arguments.out, proof.planted, bars, command)
    told = {"command": command, **proof.told()}
    (arguments.out / "proof.json").write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
    bars.table(claims(told))
    bars.says(
        f"Wrote {arguments.out / 'proof.json'}: {'every claim holds' if proof.holds else 'not every claim holds'}."
    )
    return 0 if proof.holds else 1


def _write(folder: Path, told: dict[str, Any], bars: Bars, command: str) -> None:
    from model_server.evaluation import page, plots
    from model_server.evaluation.table import sentences, table

    folder.mkdir(parents=True, exist_ok=True)
    told = {"command": command, **told}
    (folder / "report.json").write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    (folder / "report.md").write_text(page.page(told, plots.draw(told, folder), command), "utf-8")
    bars.table(table(told))
    for line in sentences(told):
        bars.says(line)
    bars.says(f"Wrote {folder / 'report.json'} and {folder / 'report.md'}.")


def _bundle(folder: Path, declaration: Declaration) -> Bundle:
    from model_server.bundle import BundleError, load
    from model_server.model_folder import CURRENT, current_version

    version = current_version(folder)
    if version is None:
        message = f"{folder} names no bundle in a file {CURRENT}: give the folder that `kairos train --out` wrote"
        raise BundleError(message)
    return load(folder, version, declaration)


def read_by(train: TrainConfig, text: Wish, bundle: Bundle | None) -> TrainConfig:
    """Titles are read as the bundle reads them, or not at all, where one is judged: all rankers see its counters."""
    if bundle is None:
        return replace(train, text=text)
    return replace(train, text="none", projection=bundle.titles)


def _config(arguments: argparse.Namespace) -> EvaluateConfig:
    from model_server.evaluation.harness import EvaluateConfig

    train = replace(asked.config(arguments, arguments.test), threads=arguments.threads)
    return EvaluateConfig(train, seeds=arguments.seeds, scene=not arguments.no_scene)


def _parser() -> argparse.ArgumentParser:
    about = "Judge every ranker on a behaviour log, or on what the topics hold, by one harness."
    quick = "within minutes: fewer requests, fewer passes"
    parser = asked.parser("evaluate", about, asked.LearnSettings, quick=quick)
    parser.add_argument(
        "--planted", action="store_true", help="prove that time and scene are read, on a shop with planted preferences"
    )
    parser.add_argument("--out", type=Path, default=Path("build/evaluate"), help="folder of the report (%(default)s)")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="judge the bundle in force in this folder too")
    parser.add_argument(
        "--baselines", nargs="*", metavar="NAME", help="only these baselines besides the blend, none for no name"
    )
    parser.add_argument(
        "--seeds", type=whole_number, default=3, help="seeds of rankers with chance in them, from --seed on (3)"
    )
    parser.add_argument("--test", type=float, default=0.2, metavar="SHARE", help="newest share of the requests (.2)")
    parser.add_argument("--no-scene", action="store_true", help="leave out trainings without and with wrong scenes")
    parser.add_argument("--threads", type=whole_number, default=1, help="of torch and LightGBM (1); part of the seed")
    return parser
