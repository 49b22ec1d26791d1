"""`kairos replay`: read events again, into a run beside the live tables or only to count them."""

from __future__ import annotations

import argparse
import os

from streams.service import logs, loop, settings
from streams.service.arguments import whole_number
from streams.service.verb import Telling, parser
from streams.settings import FoldSettings


def replay(argv: list[str]) -> int:
    """The verb; 0 when planned or done, 1 when something failed, 78 refused, 130 when told to stop."""
    arguments = _parser().parse_args(argv)
    read = settings.read(FoldSettings, os.environ)
    logs.setup(read.shell.log, "error")
    tell = Telling(as_json=arguments.json)
    return tell.end(loop.run(_replay(arguments, read, tell)))


async def _replay(arguments: argparse.Namespace, read: FoldSettings, tell: Telling) -> int:
    from streams.replay.ground import ground
    from streams.replay.proposal import Replay
    from streams.replay.ranges import ReplayError
    from streams.tables.errors import TableError

    try:
        async with ground(read) as found:
            return await Replay(arguments, found, tell).run()
    except (ReplayError, TableError) as error:
        tell.complain(str(error))
        return getattr(error, "exit_code", 78)


def _parser() -> argparse.ArgumentParser:
    from streams.replay.moments import length, moment

    made = parser(
        "replay", "Read events again: count them, or build rows beside the live ones.", FoldSettings, acts=True
    )
    made.add_argument("--into", metavar="RUN", type=run_name, help="namespace of its own that is filled, or goes on")
    made.add_argument(
        "--mode",
        choices=("dry-run", "rebuild", "shadow"),
        help="dry-run: read, decode, count; rebuild: rows, and nothing is sent (the default); "
        "shadow: rows and a queue that `kairos model --shadow RUN` scores",
    )
    made.add_argument(
        "--topics", nargs="+", default=[], metavar="TOPIC", help="clicks, browses, orders, feedback, items"
    )
    made.add_argument(
        "--from", dest="start", type=moment, metavar="X", help="offset, time (ISO), or how long ago (36h)"
    )
    made.add_argument("--to", dest="end", type=moment, metavar="Y", help="the same; by default the log's present end")
    made.add_argument(
        "--lead-in", type=length, metavar="LENGTH", help="read so much before a time X (the longest window)"
    )
    add_effort(made)
    return made


def add_effort(made: argparse.ArgumentParser) -> None:
    """The options of how hard a replay or back-fill works."""
    made.add_argument("--rate", type=whole_number, default=0, metavar="N", help="at most so many events a second")
    made.add_argument("--processes", type=whole_number, default=1, metavar="N", help="split by partition (%(default)s)")
    made.add_argument("--chunk", type=whole_number, metavar="N", help="records in one step (KAIROS_CHUNK)")


def run_name(text: str) -> str:
    """The name of a run; raises argparse.ArgumentTypeError where it cannot be one."""
    from schemas.keys import Keys

    try:
        Keys(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
