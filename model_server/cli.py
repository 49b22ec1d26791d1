"""The model side's sub-commands: model, train, evaluate, why."""

import argparse
import asyncio
import gc
import logging as std_logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from model_server.settings import ModelSettings, WhyTools
from streams.service import logs, loop, settings
from streams.service.arguments import parser, whole_number
from streams.service.variables import unknown

if TYPE_CHECKING:
    from model_server.scoring import RankerSource
    from streams.features.declaration import Declaration


SWITCH_S = 0.0001
"""How long a thread may keep the interpreter while another waits: the forward pass asks for it between two operations,
and at Python's 5 ms it would stand still while the next batch is prepared beside it (at 0.5 ms still in part)."""


def model(argv: list[str]) -> int:
    """`kairos model`: score affected users and produce push candidates."""
    about = "Score affected users and produce push candidates, until told to stop."
    asked = parser("model", about, ModelSettings)
    asked.add_argument("--drain", action="store_true", help="stop when nobody is queued any more (who is held waits)")
    asked.add_argument("--shadow", metavar="RUN", help="score a shadow run: its records go to topics of its own")
    arguments = asked.parse_args(argv)
    read = settings.read(ModelSettings, os.environ)
    logs.setup(read.shell.log, read.shell.log_level)
    for sentence in unknown(os.environ):
        std_logging.getLogger(__name__).warning("%s", sentence)
    from model_server.worker import EXIT_AGAIN

    code = loop.run(_serve(read, drain=arguments.drain, shadow=arguments.shadow))
    if code == EXIT_AGAIN:
        # A forward pass that never ends holds its thread, and the interpreter would wait for that thread for ever.
        std_logging.shutdown()
        os._exit(code)
    return code


def train(argv: list[str]) -> int:
    """`kairos train`: learn the ranker and write a bundle."""
    from model_server.training.cli import main

    return main(argv)


def evaluate(argv: list[str]) -> int:
    """`kairos evaluate`: judge every ranker by one harness."""
    from model_server.evaluation.cli import main

    return main(argv)


def why(argv: list[str]) -> int:
    """`kairos why USER`: print the latest decisions about a user."""
    from model_server.why import why as explain
    from streams.service import verb

    about = (
        "Show why a user got a push, or did not: the newest decisions first, or that in force at a time. With --now "
        "score the user again, and show what the scores are owed to, by scene field, history item and count."
    )
    asked = verb.parser("why", about, WhyTools, acts=False)
    asked.add_argument("user", help="the user_id of the events")
    asked.add_argument(
        "-n", "--newest", type=whole_number, default=3, help="how many decisions, or items (%(default)s)"
    )
    when = asked.add_mutually_exclusive_group()
    when.add_argument("--at", type=_moment, metavar="TIME", help="what was in force then, and what came next")
    when.add_argument("--now", action="store_true", help="score the user as of now and split the scores")
    asked.add_argument("--item", action="append", default=[], help="with --now: of this item; may be repeated")
    arguments = asked.parse_args(argv)
    if arguments.item and not arguments.now:
        asked.error("--item goes with --now")
    read = settings.read(WhyTools, os.environ)
    logs.setup(read.shell.log, "error")
    std_logging.getLogger("aiokafka").setLevel(std_logging.CRITICAL)  # what it meets is told in a sentence
    telling = verb.Telling(as_json=arguments.json)
    if arguments.now:
        from model_server.why_now import why_now

        return asyncio.run(why_now(read, arguments.user, telling, best=arguments.newest, wanted=arguments.item))
    return asyncio.run(explain(read.connections, arguments.user, telling, newest=arguments.newest, at_ms=arguments.at))


def _moment(text: str) -> int:
    from streams.service.clock import Clock
    from streams.service.moments import moment

    try:
        return moment(text, Clock()())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


async def _serve(read: ModelSettings, *, drain: bool, shadow: str | None) -> int:
    from model_server.shadow import open_shadow
    from model_server.worker import Worker

    outlets = None
    if shadow is not None:
        read, outlets = await open_shadow(read, shadow)
    stop = asyncio.Event()
    running = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        running.add_signal_handler(number, stop.set)
    return await Worker(read, _rankers, drain=drain, outlets=outlets).run(stop)


def _rankers(read: ModelSettings, declaration: "Declaration") -> "RankerSource":
    from pathlib import Path

    from model_server.bundle_watcher import BundleWatcher

    folder = None if read.model_dir is None else Path(read.model_dir)
    watcher = BundleWatcher(folder, declaration, read.device, read.text)
    _calm_the_collector()
    sys.setswitchinterval(SWITCH_S)
    return watcher


def _calm_the_collector() -> None:
    """Rows, steps and records hold no cycles, and what is alive now stays: looking for some cost a fifth of our CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
