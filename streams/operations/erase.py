"""`kairos erase USER`: remove a person, and keep the person away; its arguments, its page and its verdict."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from aiokafka.errors import KafkaError
from rich.console import Group
from rich.table import Table
from rich.text import Text

from schemas.faults import bad_ids
from streams.opened import Tables
from streams.operations.erasing import FOR_EVER_MS, Eraser, Traces, find
from streams.operations.people import Kept, kafka_trouble, kept, not_initialised, redis_trouble, shadows, topics_of
from streams.service import logs, settings
from streams.service.trouble import TROUBLE
from streams.service.verb import BAD, GOOD, Telling, parser
from streams.settings import Tools

DAY_MS = 86_400_000
TYPED_WRONGLY, REFUSED = 2, 78


def verb(argv: list[str]) -> int:
    """`kairos erase USER`: 0 planned, or nothing is left; 1 nothing was known of the user; 78 no tables here."""
    about = "Remove all that Redis keeps of a user, and leave out the user's events from then on, in rebuilds too."
    asked = parser("erase", about, Tools, acts=True)
    asked.add_argument("user", help="the user_id of the events")
    asked.add_argument(
        "--for-ever", action="store_true", help="leave out later events too; without this the user may come back as new"
    )
    arguments = asked.parse_args(argv)
    read = settings.read(Tools, os.environ)
    logs.setup(read.shell.log, "error")
    tell = Telling(as_json=arguments.json)
    for _, _, sentence in bad_ids("user_id", [arguments.user]):
        tell.complain(sentence)
        return tell.end(TYPED_WRONGLY)
    erasing = Erase(read, tell, arguments.user, execute=arguments.execute, for_ever=arguments.for_ever)
    return tell.end(asyncio.run(erasing.run()))


class Erase:
    """One call of the verb."""

    def __init__(self, tools: Tools, tell: Telling, user: str, *, execute: bool, for_ever: bool) -> None:
        self.tools, self.tell, self.user, self.execute, self.for_ever = tools, tell, user, execute, for_ever
        self.installation = tools.connections.namespace

    async def run(self) -> int:
        """Plan, and with --execute erase; the exit code."""
        tables = Tables(self.tools)
        try:
            return await self._run(tables)
        except TROUBLE as error:
            self.tell.complain(redis_trouble(self.tools.connections, error))
            return BAD
        finally:
            await tables.close()

    async def _run(self, tables: Tables) -> int:
        found = await find(tables.client, self.installation, self.user)
        if all(each.looked is None for each in found):
            self.tell.complain(not_initialised(self.installation))
            return REFUSED
        topics, silent = await self._topics(tables)
        plan = {"user_id": self.user, "namespaces": [facts(each) for each in found], "topics": [*map(_kept, topics)]}
        if silent:
            plan["topics_unknown"] = silent
        self.tell.plan(plan, page(self.user, found, topics, silent), execute=self.execute)
        return await self._erase(tables, found) if self.execute else GOOD

    async def _topics(self, tables: Tables) -> tuple[list[Kept], str]:
        """What lies in Kafka and stays there, or a sentence: that Kafka is away keeps nobody from erasing."""
        connections = self.tools.connections
        holds = topics_of(connections.topics, await shadows(tables.client, self.installation))
        try:
            async with asyncio.timeout(20):
                return await kept(connections, holds), ""
        except (KafkaError, OSError) as error:
            why = f"How long is not known of {', '.join(holds)}."
            return [], f"{why} {kafka_trouble(connections, error)}"

    async def _erase(self, tables: Tables, found: Sequence[Traces]) -> int:
        seconds, microseconds = await tables.time()
        until_ms = FOR_EVER_MS if self.for_ever else seconds * 1000 + microseconds // 1000
        eraser = Eraser(tables.client, tables.users.layout, self.installation, self.user, until_ms)
        await eraser.run()
        removed = eraser.removed
        self.tell.facts(
            erased_ms=eraser.until_ms,
            for_ever=self.for_ever,
            removed={name: each._asdict() for name, each in removed.items()},
        )
        known = any(each.anything for each in found) or any(map(any, removed.values()))
        self.tell.page(Text(self._done(eraser.until_ms, known=known)))
        return GOOD if known else BAD

    def _done(self, until_ms: int, *, known: bool) -> str:
        said = f"Nothing is left of user {self.user} in Redis." if known else f"Nothing was known of user {self.user}."
        later = until_ms == FOR_EVER_MS
        left_out = "whatever comes of the user" if later else f"what happened until {time_of(until_ms)}"
        return f"{said} From now on {left_out} is left out, in every rebuild too."


def facts(found: Traces) -> dict[str, Any]:
    """What is kept in one namespace, for programs."""
    place, seen = found
    said = {"namespace": place.name, "in_force": place.parts, "initialised": seen is not None}
    if seen is None:
        return said
    return said | {
        "partition": seen.partition,
        "row_bytes": len(seen.row or b""),
        "pushes": len(seen.pushes) + len(seen.shadow_pushes),
        "queued": seen.queued is not None,
        "leased": seen.leased is not None,
        "erased_ms": seen.erased_ms,
    }


def _kept(topic: Kept) -> dict[str, Any]:
    return {"topic": topic.topic, "holds": topic.holds, "retention_ms": topic.retention_ms}


def page(user: str, found: Sequence[Traces], topics: Sequence[Kept], silent: str) -> Group:
    """The plan for people."""
    if any(each.anything for each in found):
        head = f"All that Redis keeps of user {user} goes:"
    elif any(each.erased_ms is not None for each in found):
        head = f"User {user} was erased before, and nothing has come since. The tombstone moves on to now:"
    else:
        head = f"Nothing is known of user {user}. A tombstone will keep away what is still to come:"
    stays = "Item rows count what everybody did, without a name: they stay."
    if any(each.looked and each.looked.leased is not None for each in found):
        stays += "\nA model worker is scoring the user: a candidate that is on its way to Kafka may still arrive."
    tail = Text(silent) if silent else _topics_table(topics)
    middle = Text(f"\n{stays}\nRecords in Kafka go with time only:")
    return Group(Text(head), _places_table(found), middle, tail)


def _places_table(found: Sequence[Traces]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in ("namespace", "in force", "row", "push log", "queued", "leased", "tombstone (UTC)"):
        table.add_column(name)
    for place, seen in found:
        if seen is None:
            table.add_row(place.name, ", ".join(place.parts), "not initialised")
            continue
        marks = ["yes" if score is not None else "·" for score in (seen.queued, seen.leased)]
        row = f"{len(seen.row)} bytes" if seen.row else "·"
        pushes = len(seen.pushes) + len(seen.shadow_pushes)
        log = f"{pushes} pushes" if pushes else "·"
        table.add_row(place.name, ", ".join(place.parts), row, log, *marks, erased_words(seen.erased_ms))
    return table


def _topics_table(topics: Sequence[Kept]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in ("topic", "holds", "keeps them for"):
        table.add_column(name)
    for topic in topics:
        table.add_row(topic.topic, topic.holds, span(topic.retention_ms))
    return table


def span(ms: int | None) -> str:
    """How long a topic keeps its records."""
    if ms is None:
        return "ever: shorten retention.ms, or they never go"
    return f"{ms / DAY_MS:g} days" if ms >= DAY_MS else f"{ms / 1000:g} s"


def erased_words(erased_ms: int | None) -> str:
    """A tombstone."""
    if erased_ms is None:
        return "·"
    return "for ever" if erased_ms >= FOR_EVER_MS else time_of(erased_ms).partition(".")[0]


def time_of(ms: int) -> str:
    """A time for people; to the millisecond, which may part two events."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
