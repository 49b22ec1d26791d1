"""`kairos dead-letters list|show|redrive`: what could not be used, why, and how it gets back on its topic."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable
from typing import Any

from streams.service import logs, settings
from streams.service.arguments import more_than_nothing, whole_number
from streams.service.moments import moment
from streams.service.verb import Telling, parser

ABOUT = {
    "list": "Count dead letters by reason, topic, attempt and age, and list the newest; shows no personal data.",
    "show": "Show everything of one dead letter, its key and value too.",
    "redrive": "Put dead letters back on their topics, each of them once.",
}
NEWEST = 20
MOST_ATTEMPTS = 3


def verb(argv: list[str]) -> int:
    """`kairos dead-letters`: list, show or redrive."""
    from streams.operations.dead_letters_desk import Desk, work
    from streams.settings import Asking

    word = argv[0] if argv else ""
    if word not in ABOUT:
        lines = "\n".join(f"  {name:<9}{about}" for name, about in ABOUT.items())
        top = argparse.ArgumentParser(
            prog="kairos dead-letters",
            description=f"What could not be used, why, and how it gets back on its topic.\n\n{lines}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        top.add_argument("do", choices=list(ABOUT), help="each has a --help of its own")
        top.parse_args(argv[:1])
    arguments = _parser(word, Asking).parse_args(argv[1:])
    read = settings.read(Asking, os.environ)
    logs.setup(read.shell.log, "error")
    tell = Telling(as_json=arguments.json)
    return tell.end(asyncio.run(work(word, Desk(read, tell, arguments))))


def _parser(word: str, cls: type) -> argparse.ArgumentParser:
    from streams.operations.dead_letters_read import Place

    made = parser(f"dead-letters {word}", ABOUT[word], cls, acts=word == "redrive")
    if word == "show":
        made.add_argument("ref", type=_typed(Place.of), help="partition:offset, as `kairos dead-letters list` shows it")
        return made
    if word == "redrive":
        made.add_argument("ref", nargs="*", type=_typed(Place.of), help="these letters only (partition:offset)")
    made.add_argument("--reason", help="why they failed, such as partition")
    made.add_argument("--topic", help="the topic they come from, with or without KAIROS_TOPIC_PREFIX")
    made.add_argument("--user", "--key", dest="key", help="the key they came with, a user or an item")
    made.add_argument("--since", type=_typed(_when), metavar="TIME", help="buried since: a time, or 2h, 7d ago")
    made.add_argument("--until", type=_typed(_when), metavar="TIME", help="buried until")
    if word == "list":
        made.add_argument("--limit", type=whole_number, default=NEWEST, help="letters on the page (%(default)s)")
        return made
    made.add_argument("--limit", type=whole_number, help="so many at most, the oldest first")
    made.add_argument("--rate", type=more_than_nothing, metavar="N", help="letters a second (as many as there can be)")
    made.add_argument(
        "--max-attempts",
        type=whole_number,
        default=MOST_ATTEMPTS,
        metavar="N",
        help="leave out what has failed so often (%(default)s)",
    )
    return made


def _when(text: str) -> int:
    from streams.service.clock import Clock

    return moment(text, Clock()())


def _typed(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """A converter whose sentence reaches the person who typed."""

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return converted
