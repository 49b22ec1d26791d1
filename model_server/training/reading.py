"""The log that a command is pointed at, a file or the topics, read and encoded; what cannot be read is a sentence."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from streams.service.trouble import clause

if TYPE_CHECKING:
    from model_server.training.progress import Bars
    from model_server.training.recorded import Recorded
    from streams.features.declaration import Declaration
    from streams.service.settings import Connections


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that name a log and what counts in it."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--topics", action="store_true", help="read what the topics hold (the default)")
    source.add_argument("--events", type=Path, help="a log: .csv, .jsonl, .parquet or a .zip of one")
    parser.add_argument(
        "--shards",
        type=Path,
        metavar="DIR",
        help="keep what is read of the topics as parquet; then read what is new",
    )
    parser.add_argument(
        "--readers", type=int, default=0, metavar="N", help="processes that read the topics (idle cores)"
    )
    parser.add_argument("--with-erased", action="store_true", help="of the topics, keep what erased people did")
    parser.add_argument("--map", default="mapping.toml", help="built-in mapping or a mapping file of the log")
    parser.add_argument("--until", type=_moment, metavar="TIME", help="leave out what happened from this time on (ISO)")
    parser.add_argument("--target", action="append", metavar="KIND", help="kind that counts as taking an item")


def missing(arguments: argparse.Namespace) -> bool:
    """Whether the named file is not there, which is said; asked before the libraries that take seconds."""
    if arguments.events is None or arguments.events.is_file():
        return False
    print(f"There is no file {arguments.events}.", file=sys.stderr)
    return True


def recorded(
    arguments: argparse.Namespace, connections: Connections, zone: str, declaration: Declaration, bars: Bars
) -> Recorded | None:
    """The log of the file or of the topics, up to --until; None after saying why there is none.

    It comes before torch, which takes seconds: a wrong address is told at once.
    """
    from streams.logs.columns import LogError
    from streams.logs.mapping import MappingError

    try:
        return _read(arguments, connections, zone, declaration, bars)
    except (LogError, MappingError, OSError) as error:
        print(error, file=sys.stderr)
        return None


def _read(
    arguments: argparse.Namespace, connections: Connections, zone: str, declaration: Declaration, bars: Bars
) -> Recorded:
    from model_server.training.recorded import RawEvent, record, until

    if arguments.events is None:
        whole = _of_topics(arguments, connections, zone, declaration, bars)
    else:
        from streams.logs import logs, mapping

        log = logs.read_log(arguments.events, mapping.load(arguments.map, declaration))
        bars.says(f"{arguments.events.name}: {log.cleaning}")
        events = (RawEvent(event.stream, event.key, event.value) for event in log.events)
        with bars.step("encode", len(log.events)) as tick:
            whole = record(events, log.items, declaration, log.zone, tick)
    return until(whole, arguments.until) if arguments.until is not None else whole


def _of_topics(
    arguments: argparse.Namespace, connections: Connections, zone: str, declaration: Declaration, bars: Bars
) -> Recorded:
    from contextlib import ExitStack

    from aiokafka.errors import KafkaError

    from model_server.training.topics import Reading, read_topics
    from streams.service.entry import NoEntryError

    wanted = Reading(connections, declaration, zone, arguments.shards, arguments.readers, not arguments.with_erased)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it meets is told in a sentence
    with ExitStack() as stack:
        try:
            read = asyncio.run(read_topics(wanted, lambda total: stack.enter_context(bars.step("read topics", total))))
        except NoEntryError as error:
            raise OSError(str(error)) from error
        except KafkaError as error:
            message = (
                f"Kafka at {connections.kafka} does not answer ({clause(error)}): is KAIROS_KAFKA right, is it running?"
            )
            raise OSError(message) from error
    if read.left_out:
        bars.says(f"{read.left_out:,} events of people who were erased are left out.")
    return read.recorded


def _moment(text: str) -> int:
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text} is no time like 2026-01-31 or 2026-01-31T18:00+01:00"
        raise argparse.ArgumentTypeError(message) from None
    return int((stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC)).timestamp() * 1000)
