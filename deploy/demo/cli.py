"""`kairos demo`: what is asked for becomes a source and a plan, the story is told, the result is shown and written."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from deploy import extras
from deploy.demo.report import Report
from deploy.demo.screen import Screen
from deploy.demo.sources import LogSource, ShopSource, Source
from deploy.demo.story import Demo, Plan
from streams.service.arguments import more_than_nothing, whole_number

REPORT = Path("build") / "demo.json"


def demo(argv: Sequence[str]) -> int:
    """Run the demo; 0 when there were candidates and no event was lost or counted twice."""
    options = _parser().parse_args(argv)
    console = Console(highlight=False)
    screen = Screen(console)
    screen.title("Kairos", "live behaviour in, the right push at the right moment out")
    extras.require("model" if options.train else "")
    try:
        report = _run(options, screen)
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("\n  Stopped; everything that was started has ended.")
        return 130
    report.write(options.report)
    if screen.rich:
        console.print(report.panel(options.report))
    else:
        console.print("\n".join([*report.text(), f"{'figures':>12}  {options.report}"]), soft_wrap=True)
    return 0 if report.holds else 1


def _run(options: argparse.Namespace, screen: Screen) -> Report:
    source = _source(options, screen)
    screen.note(source.about)
    theirs = "KAIROS_KAFKA" in os.environ or "KAIROS_REDIS" in os.environ
    with _folder(options.folder, screen) as folder:
        plan = Plan(
            seconds=options.seconds,
            folder=folder,
            workers=options.workers,
            train=options.train,
            apart=f"demo-{secrets.token_hex(3)}" if theirs else "",
        )
        return asyncio.run(Demo(plan, source, screen).run())


@contextmanager
def _folder(named: Path | None, screen: Screen) -> Iterator[Path]:
    """The folder of data and logs; an unnamed one is removed, unless something went wrong and its logs are wanted."""
    folder = Path(tempfile.mkdtemp(prefix="kairos-demo-")) if named is None else named.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except Exception:
        screen.note(f"The logs are in {folder}")
        raise
    except BaseException:
        _forget(folder, named)
        raise
    _forget(folder, named)


def _forget(folder: Path, named: Path | None) -> None:
    if named is None:
        shutil.rmtree(folder, ignore_errors=True)


def _source(options: argparse.Namespace, screen: Screen) -> Source:
    now_ms = time.time_ns() // 1_000_000
    if options.events is None:
        return ShopSource(
            users=options.users or 4_000,
            items=1_200,
            events=options.history,
            events_per_s=options.rate,
            seed=options.seed,
            now_ms=now_ms,
        )
    from streams.logs import logs, mapping

    with screen.step(f"Reading {options.events.name}") as step:
        log = logs.read_log(options.events, mapping.load(options.map))
        if options.users is not None:
            log = logs.of_users(log, options.users)
        step.says(f"{options.events.name}: {log.users:,} users, {len(log.items):,} items")
    return LogSource(log, events_per_s=options.rate, live_s=options.seconds, seed=options.seed, now_ms=now_ms)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kairos demo",
        description="Watch behaviour become push candidates: real Kafka and Valkey, a past folded at full speed, a "
        "ranker trained on it, then live traffic, and in the end every row checked against what was sent.",
    )
    parser.add_argument("--events", type=Path, metavar="FILE", help="a real log (.csv, .jsonl, .parquet, zipped)")
    parser.add_argument(
        "--map",
        default="online-retail",
        metavar="NAME|TOML",
        help="how its columns are read: online-retail, deskdrop or a file",
    )
    parser.add_argument("--seconds", type=more_than_nothing, default=40, help="of live traffic (default: %(default)s)")
    parser.add_argument(
        "--rate", type=more_than_nothing, default=120, help="live events a second (default: %(default)s)"
    )
    parser.add_argument(
        "--users", type=whole_number, help="people of the shop (default: 4000), or of the log (default: all)"
    )
    parser.add_argument(
        "--history", type=whole_number, default=120_000, help="events of the shop's past (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=7, help="of the shop and its chances (default: %(default)s)")
    parser.add_argument("--workers", type=whole_number, default=1, help="stream workers (default: %(default)s)")
    parser.add_argument(
        "--no-train", dest="train", action="store_false", help="serve the blend of lists, train nothing"
    )
    parser.add_argument("--folder", type=Path, help="keep data and logs here (default: a temporary folder)")
    parser.add_argument("--report", type=Path, default=REPORT, help="where the figures go (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(demo(sys.argv[1:]))
