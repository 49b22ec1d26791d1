"""`kairos capacity`: what a user costs, what a worker can do, and what a number of users or events would need."""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from streams.admin import administering
from streams.operations import asking
from streams.operations.aligned import aligned
from streams.operations.checkup.kafka import describe_group
from streams.operations.sizing import Figure, Moved, memory, memory_figures, speed_figures
from streams.operations.standing import Seen, see
from streams.operations.worker_metrics import MetricsError, WorkerWork, work_of
from streams.service.arguments import whole_number
from streams.service.kafka import client_options
from streams.service.redis_facts import cpu_seconds
from streams.service.verb import BAD, GOOD, Telling, parser
from streams.tables.memory_use import memory_use

if TYPE_CHECKING:
    from streams.opened import Tables
    from streams.settings import GroupSettings

FOR_S = 10.0


async def look(settings: GroupSettings, tables: Tables, tell: Telling, asked: argparse.Namespace) -> int:
    """Measure what can be measured and say what is assumed; 1 when there is nothing to measure on."""
    client = tables.client
    connections = await asking.live(client, settings.connections)
    topics, keys, kafka = connections.topics, connections.keys, client_options(connections)
    before = await see(kafka, client, keys, topics, settings.isolation)
    if not before.topics:
        tell.complain(asking.not_there(connections, [*topics.user_inputs, *topics.item_inputs]))
        return BAD
    use = await memory_use(client, keys, len(before.users), len(before.items))
    try:
        moved = await _moved(settings, tables, before, asked)
    except MetricsError as error:
        tell.complain(str(error))
        return BAD
    parts = [
        ("memory of Redis", memory_figures(memory(use), asked.users)),
        ("events", speed_figures(moved, asked.events_per_s)),
    ]
    tell.facts(**{name: [_plain(figure) for figure in figures] for name, figures in parts})
    for name, figures in parts:
        tell.page(page(name, figures))
    return GOOD


async def _moved(settings: GroupSettings, tables: Tables, before: Seen, asked: argparse.Namespace) -> Moved:
    """Look twice, `--for` seconds apart."""
    client, kafka = tables.client, client_options(settings.connections)
    connections = await asking.live(client, settings.connections)
    topics, keys = connections.topics, connections.keys
    async with administering(kafka) as admin:
        group = await describe_group(admin, settings.group_of("users"))
    began_s, was, cpu = time.monotonic(), await _work(asked.metrics), await cpu_seconds(client)
    first = await see(kafka, client, keys, topics, settings.isolation) if asked.for_s else before
    await asyncio.sleep(asked.for_s)
    after = await see(kafka, client, keys, topics, settings.isolation) if asked.for_s else before
    now = await _work(asked.metrics)
    seconds = time.monotonic() - began_s if asked.for_s else 0.0
    applied = [_sum(seen, topics.user_inputs, "fence") for seen in (first, after)]
    ends = [_sum(seen, topics.user_inputs, "end") for seen in (first, after)]
    return Moved(
        seconds=seconds,
        applied=max(0, applied[1] - applied[0]),
        arrived=max(0, ends[1] - ends[0]),
        behind=sum(s.behind for s in after.standings if s.topic in topics.user_inputs),
        workers=len(group.members),
        partitions=len(after.users),
        cpu_s=now.cpu_s - was.cpu_s,
        cpu_events=now.events - was.events,
        redis_cpu_s=await cpu_seconds(client) - cpu if asked.for_s else 0.0,
    )


async def _work(urls: Sequence[str]) -> WorkerWork:
    return await work_of(urls) if urls else WorkerWork(0, 0.0)


def _sum(seen: Seen, inputs: Sequence[str], name: str) -> int:
    return sum(getattr(standing, name) or 0 for standing in seen.standings if standing.topic in inputs)


def _plain(figure: Figure) -> dict[str, object]:
    """A figure whose value JSON can hold: none where it is infinite."""
    return figure._asdict() | {"value": figure.value if math.isfinite(figure.value) else None}


def page(name: str, figures: Sequence[Figure]) -> Group:
    """A table of figures; what is assumed says so."""
    rows = [(f.name, _number(f.value), f.unit, "measured" if f.measured else "assumed", f.how) for f in figures]
    return Group(Text(name, style="bold"), *map(Text, aligned(rows, right={1})), Text())


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "never"
    return f"{value:,.2f}" if value < 10 and value != int(value) else f"{value:,.0f}"


def capacity(argv: list[str]) -> int:
    """`kairos capacity`: 1 when there is nothing to look at."""
    from streams.opened import Tables
    from streams.service import logs, settings
    from streams.settings import GroupSettings

    made = parser(
        "capacity", "What a user costs, what a worker can do, what a load would need.", GroupSettings, acts=False
    )
    made.add_argument("--users", type=whole_number, metavar="N", help="memory for so many users")
    made.add_argument("--events-per-s", type=whole_number, metavar="N", help="workers for so many events a second")
    made.add_argument(
        "--for", dest="for_s", type=_seconds, default=FOR_S, metavar="SECONDS", help="how long to watch (%(default)s)"
    )
    made.add_argument(
        "--metrics",
        nargs="+",
        default=[],
        metavar="HOST:PORT",
        help="KAIROS_HTTP of workers: their CPU is measured too",
    )
    asked = made.parse_args(argv)
    read = settings.read(GroupSettings, os.environ)
    logs.setup(read.shell.log, "critical")
    tell = Telling(as_json=asked.json)

    async def run() -> int:
        tables = Tables(read)
        try:
            within_s = asking.ANSWER_WITHIN_S + asked.for_s
            return await asking.answered(tell, read.connections, lambda: look(read, tables, tell, asked), within_s)
        finally:
            await tables.close()

    return tell.end(asyncio.run(run()))


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        msg = f"{text} is no number of seconds up to an hour"
        raise argparse.ArgumentTypeError(msg)
    return seconds
