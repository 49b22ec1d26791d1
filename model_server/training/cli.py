"""`kairos train`: learn the ranker from a log or from the topics, print how good it is, and write a bundle."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from model_server.training.progress import Bars
from streams.features.declaration import DEFAULT
from streams.features.features_file import load
from streams.service import settings
from streams.service.settings import Connections, setting, time_zone
from streams.service.trouble import clause

if TYPE_CHECKING:
    from model_server.training.config import TrainConfig
    from model_server.training.recorded import Recorded
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


def main(argv: list[str]) -> int:
    """Run the command; 0 when a bundle was written, 1 with a sentence on stderr when nothing could be learned."""
    from rich.console import Console

    arguments = _parser().parse_args(argv)
    console = Console()
    if arguments.events is not None and not arguments.events.is_file():  # before the libraries that take seconds
        print(f"There is no file {arguments.events}.", file=sys.stderr)
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
    recorded = _recorded(arguments, read, declaration, bars)
    return 1 if recorded is None else _train(arguments, recorded, declaration, folder, bars)


def _train(
    arguments: argparse.Namespace, recorded: Recorded, declaration: Declaration, folder: Path, bars: Bars
) -> int:
    from model_server.bundle import save
    from model_server.model_folder import make_current
    from model_server.training import report
    from model_server.training.train import TrainingError, train

    config = _config(arguments)
    try:
        trained = train(recorded, declaration, config, bars)
    except (TrainingError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    others = report.baselines(recorded, declaration, trained.chosen, bars) if config.baselines else {}
    told = report.report(trained, recorded, others, config.seed)
    now_ms = time.time_ns() // 1_000_000
    bundle = report.bundle_of(trained, declaration, told, now_ms)
    path = save(folder, bundle)
    if not arguments.no_promote:
        make_current(folder, bundle.version, "train", now_ms)
    bars.table(report.table(told))
    for line in report.sentences(told):
        bars.says(line)
    _write(arguments.report, {"bundle": str(path), "version": bundle.version, **told})
    bars.says(f"Wrote {path}, {'not in force: see `kairos models`' if arguments.no_promote else 'in force now'}.")
    return 0


def _recorded(
    arguments: argparse.Namespace, read: TrainSettings, declaration: Declaration, bars: Bars
) -> Recorded | None:
    """The log of the file or of the topics, up to --until; None after saying why there is none.

    It comes before torch, which takes seconds: a wrong address is told at once.
    """
    from streams.logs.columns import LogError
    from streams.logs.mapping import MappingError

    try:
        return _read(arguments, read, declaration, bars)
    except (LogError, MappingError, OSError) as error:
        print(error, file=sys.stderr)
        return None


def _read(arguments: argparse.Namespace, read: TrainSettings, declaration: Declaration, bars: Bars) -> Recorded:
    from model_server.training.recorded import RawEvent, record, until

    if arguments.events is None:
        events, catalogue, zone = *_of_topics(read.connections, bars), read.zone
    else:
        from streams.logs import logs, mapping

        log = logs.read_log(arguments.events, mapping.load(arguments.map, declaration))
        bars.says(f"{arguments.events.name}: {log.cleaning}")
        events = [RawEvent(event.stream, event.key, event.value) for event in log.events]
        catalogue, zone = log.items, log.zone
    with bars.step("encode", len(events)) as tick:
        recorded = record(events, catalogue, declaration, zone, tick)
    return until(recorded, arguments.until) if arguments.until is not None else recorded


def _of_topics(connections: Connections, bars: Bars) -> tuple[list[Any], dict[str, dict[str, Any]]]:
    from contextlib import ExitStack

    from aiokafka.errors import KafkaError

    from model_server.training.topics import read_topics
    from streams.service.entry import NoEntryError

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it meets is told in a sentence
    with ExitStack() as stack:
        try:
            return asyncio.run(
                read_topics(connections, lambda total: stack.enter_context(bars.step("read topics", total)))
            )
        except NoEntryError as error:
            raise OSError(str(error)) from error
        except KafkaError as error:
            message = (
                f"Kafka at {connections.kafka} does not answer ({clause(error)}): is KAIROS_KAFKA right, is it running?"
            )
            raise OSError(message) from error


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


def _moment(text: str) -> int:
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text} is no time like 2026-01-31 or 2026-01-31T18:00+01:00"
        raise argparse.ArgumentTypeError(message) from None
    return int((stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC)).timestamp() * 1000)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kairos train",
        description="Learn the ranker from a behaviour log or from what the topics hold, and write a bundle.",
        epilog=settings.help_text(TrainSettings),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--topics", action="store_true", help="learn from what the topics hold (the default)")
    source.add_argument("--events", type=Path, help="a log: .csv, .jsonl, .parquet or a .zip of one")
    parser.add_argument("--map", default="mapping.toml", help="built-in mapping or a mapping file of the log")
    parser.add_argument("--out", type=Path, help="folder of the bundles (else KAIROS_MODEL_DIR)")
    parser.add_argument("--until", type=_moment, metavar="TIME", help="leave out what happened from this time on (ISO)")
    parser.add_argument("--target", action="append", metavar="KIND", help="kind that counts as taking an item")
    parser.add_argument(
        "--test", type=float, metavar="SHARE", help="newest share kept for the report (file .2, topics 0)"
    )
    parser.add_argument("--quick", action="store_true", help="within a minute: fewer lists, fewer passes, no baselines")
    parser.add_argument("--no-promote", action="store_true", help="write the bundle and leave in force what is")
    parser.add_argument("--no-encoder", action="store_true", help="leave out the transformer stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write the report as JSON, e.g. build/train-shop.json"
    )
    return parser
