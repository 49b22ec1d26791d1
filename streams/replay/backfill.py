"""`kairos backfill`: fold files of events into a run, as if they had come by Kafka."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from streams.replay.replay import add_effort, run_name
from streams.service import logs, loop, settings
from streams.service.verb import Telling, parser
from streams.settings import FoldSettings


def backfill(argv: list[str]) -> int:
    """The verb; 0 when planned or done, 1 when something failed, 78 refused, 130 when told to stop."""
    arguments = _parser().parse_args(argv)
    read = settings.read(FoldSettings, os.environ)
    logs.setup(read.shell.log, "error")
    tell = Telling(as_json=arguments.json)
    return tell.end(loop.run(_backfill(arguments, read, tell)))


def _parser() -> argparse.ArgumentParser:
    from streams.replay.moments import moment

    about = (
        "Fold files of events into rows beside the live ones: CSV, JSON lines, Parquet, zipped or not, in any order."
    )
    made = parser("backfill", about, FoldSettings, acts=True)
    made.add_argument("files", nargs="+", type=Path, metavar="FILE", help="counts once, however often it is given")
    made.add_argument(
        "--into", required=True, metavar="RUN", type=run_name, help="namespace that is filled, or goes on"
    )
    made.add_argument("--map", metavar="MAPPING", help="built-in mapping or a file; events in our own schema need none")
    made.add_argument(
        "--catalogue",
        action="store_true",
        help="the items that [item] of the mapping tells, too; items.v1 overrides them",
    )
    made.add_argument("--until", type=moment, metavar="TIME", help="leave out events of this time and later")
    add_effort(made)
    return made


async def _backfill(arguments: argparse.Namespace, read: FoldSettings, tell: Telling) -> int:
    from streams.replay.addition import Backfill
    from streams.replay.ground import ground
    from streams.replay.lines import FileError
    from streams.replay.ranges import ReplayError
    from streams.tables.errors import TableError

    try:
        async with ground(read) as found:
            with tempfile.TemporaryDirectory(prefix="kairos-backfill-") as folder:
                return await Backfill(arguments, found, tell).run(Path(folder))
    except (ReplayError, TableError, FileError) as error:
        tell.complain(str(error))
        return getattr(error, "exit_code", 78)
