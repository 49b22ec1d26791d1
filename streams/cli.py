"""The stream side's sub-commands: worker, topics, inspect."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os

from schemas.keys import Keys
from streams.service import logs, loop, settings
from streams.service.arguments import parser, whole_number
from streams.service.variables import unknown


def worker(argv: list[str]) -> int:
    """`kairos worker`: read user events and item deltas, keep features in Redis."""
    from streams.settings import StreamSettings
    from streams.wiring import SIDES
    from streams.worker import work

    about = "Read events from Kafka and keep features in Redis, until told to stop."
    asked = parser("worker", about, StreamSettings)
    asked.add_argument("--only", choices=SIDES, help="run one side only (by default both in one process)")
    asked.add_argument(
        "--into",
        type=_namespace,
        metavar="NAMESPACE",
        help="fold into this namespace, whatever is in force: into a run that is not promoted yet",
    )
    arguments = asked.parse_args(argv)
    read = settings.read(StreamSettings, os.environ)
    logs.setup(read.shell.log, read.shell.log_level)
    for sentence in unknown(os.environ):
        logging.getLogger(__name__).warning("%s", sentence)
    if read.shell.log_level != "debug":
        for name in ("faust", "mode", "aiokafka"):  # a page of lines at every start and rebalance
            logging.getLogger(name).setLevel(logging.WARNING)
    return loop.run(work(read, (arguments.only,) if arguments.only else SIDES, into=arguments.into or ""))


def topics(argv: list[str]) -> int:
    """`kairos topics create|init|check`: set an installation up, or say all that is wrong with it."""
    from streams.settings import Tools
    from streams.setup import SetUp
    from streams.topic_plan import TopicLayout

    asked = parser("topics", "Create topics and write what their offsets mean, or check all of it.", Tools)
    known = TopicLayout()
    asked.add_argument(
        "do",
        choices=("create", "init", "check"),
        help="create: make what is missing, then init; "
        "init: write ids, counts and base offsets to Redis once; check: print every trouble with its remedy",
    )
    for name, value, about in (
        ("--partitions", known.users, "of topics keyed by user"),
        ("--item-partitions", known.items, "of topics keyed by item"),
        ("--replication", known.replication, "copies of each"),
        ("--retention-days", known.retention_days, "of user events"),
    ):
        asked.add_argument(name, type=whole_number, help=f"{about} ({value})")
    asked.add_argument("--erased-from", type=_namespace, metavar="NAME", help="keep users away that were erased there")
    arguments = asked.parse_args(argv)
    read = settings.read(Tools, os.environ)
    logs.setup(read.shell.log, "error")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it meets is told in a sentence
    layout = TopicLayout(
        users=arguments.partitions or known.users,
        items=arguments.item_partitions or known.items,
        replication=arguments.replication or known.replication,
        retention_days=arguments.retention_days or known.retention_days,
    )
    exact = bool(arguments.partitions or arguments.item_partitions)
    set_up = SetUp(read, layout, exact=exact, erased_from=arguments.erased_from or "")
    return asyncio.run({"create": set_up.create, "init": set_up.init, "check": set_up.check}[arguments.do]())


def inspect(argv: list[str]) -> int:
    """`kairos inspect USER`: print what is known of a user."""
    from streams.asking import inspect_user
    from streams.service import verb
    from streams.settings import Tools

    asked = verb.parser("inspect", "Show what is known of a user, as of now.", Tools, acts=False)
    asked.add_argument("user", help="the user_id of the events")
    asked.add_argument("--newest", type=whole_number, default=20, help="history entries on the page (%(default)s)")
    arguments = asked.parse_args(argv)
    read = settings.read(Tools, os.environ)
    logs.setup(read.shell.log, "error")
    telling = verb.Telling(as_json=arguments.json)
    return asyncio.run(inspect_user(read, arguments.user, telling, newest=arguments.newest))


def _namespace(text: str) -> str:
    try:
        return Keys(text).namespace
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
