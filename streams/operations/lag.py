"""`kairos lag`: how far the rows are behind the topics, and who waits for an answer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from streams.features.declaration import CLASSES
from streams.operations import asking
from streams.operations.aligned import aligned
from streams.operations.standing import Seen, Standing, see
from streams.service.spans import span
from streams.service.verb import BAD, GOOD, Telling, parser
from streams.tables.survey import QueueLook, queues

if TYPE_CHECKING:
    from streams.opened import Tables
    from streams.settings import ReadSettings

MOST_RECORDS = 10_000
"""A partition further behind than this is not kept up with: a worker folds as much in a second."""


def totals(standings: Sequence[Standing], now_ms: int) -> dict[str, dict[str, Any]]:
    """By topic: its partitions, the offsets behind, the worst partition and the age of the oldest unapplied record."""
    found: dict[str, dict[str, Any]] = {}
    for standing in standings:
        of = found.setdefault(
            standing.topic, {"partitions": 0, "end": 0, "behind": 0, "worst": 0, "unknown": 0, "oldest_age_ms": None}
        )
        of["partitions"] += 1
        of["end"] += standing.end
        of["behind"] += standing.behind
        of["worst"] = max(of["worst"], standing.behind)
        of["unknown"] += standing.fence is None
        age_ms = age(standing, now_ms)
        if age_ms is not None:
            of["oldest_age_ms"] = max(age_ms, of["oldest_age_ms"] or 0)
    return found


def age(standing: Standing, now_ms: int) -> int | None:
    """How long ago Kafka took the oldest record that is not applied."""
    return None if standing.oldest_ms is None else max(0, now_ms - standing.oldest_ms)


def waiting(looks: Sequence[QueueLook], delays_ms: Sequence[int], now_ms: int) -> dict[str, Any]:
    """The queues together; `oldest` is the user whose deadline is the earliest, if it has passed."""
    found: dict[str, Any] = {
        name: sum(getattr(look, name) for look in looks) for name in ("due", "waiting", "leased", "expired")
    }
    first = min((look.oldest for look in looks if look.oldest), key=lambda user: user.deadline_ms, default=None)
    found["oldest"] = None
    if first is not None and first.deadline_ms <= now_ms:
        found["oldest"] = {
            "user_id": first.user,
            "class": CLASSES[first.priority],
            "late_ms": now_ms - first.deadline_ms,
            "waits_ms": now_ms - first.deadline_ms + delays_ms[first.priority],
        }
    return found


def verdict(standings: Sequence[Standing], absent: Sequence[str], most: int) -> list[str]:
    """Sentences about what stands still, is further behind than `most` offsets, or cannot be told."""
    said = [f"{name} is not in Kafka: run `kairos topics create`." for name in absent]
    unknown = sorted({s.topic for s in standings if s.fence is None})
    said += [f"{name} has no base offset in Redis: run `kairos topics init`." for name in unknown]
    said += [f"{s.topic}:{s.partition} stands still, alone: {s.hole}" for s in standings if s.hole]
    for standing in sorted(standings, key=lambda s: -s.behind):
        if standing.behind > most and not standing.hole:
            where = f"{standing.topic}:{standing.partition}"
            said.append(f"{where} is {standing.behind:,} offsets behind, more than {most:,}.")
    return said


def facts(seen: Seen, looks: Sequence[QueueLook], delays_ms: Sequence[int], now_ms: int) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "now_ms": now_ms,
        "behind": sum(standing.behind for standing in seen.standings),
        "topics": totals(seen.standings, now_ms),
        "partitions": [
            {
                "topic": s.topic,
                "partition": s.partition,
                "fence": s.fence,
                "end": s.end,
                "behind": s.behind,
                "oldest_age_ms": age(s, now_ms),
                "stopped": s.hole is not None,
            }
            for s in seen.standings
        ],
        "queue": waiting(looks, delays_ms, now_ms),
    }


def page(known: Mapping[str, Any], *, every: bool, rate_per_s: float | None = None) -> Group:
    """The same for people; `every` partition, or those behind only; the rate is that of the fences meanwhile."""
    rows = [("topic", "partition", "fence", "end", "behind", "oldest unapplied")]
    for name, of in known["topics"].items():
        rows.append((name, f"all {of['partitions']}", "", f"{of['end']:,}", f"{of['behind']:,}", _old(of)))
        for part in known["partitions"]:
            if part["topic"] == name and (every or part["behind"] or part["fence"] is None):
                fence = "never set" if part["fence"] is None else f"{part['fence']:,}"
                rows.append(("", str(part["partition"]), fence, f"{part['end']:,}", f"{part['behind']:,}", _old(part)))
    head, *body = (Text(line) for line in aligned(rows, right={1, 2, 3, 4, 5}))
    head.stylize("bold")
    return Group(head, *body, Text(), Text(queue_words(known["queue"])), *_rate_words(known["behind"], rate_per_s))


def _old(of: Mapping[str, Any]) -> str:
    return "" if of["oldest_age_ms"] is None else span(of["oldest_age_ms"])


def queue_words(queue: Mapping[str, Any]) -> str:
    """The queue of affected users in a line or two."""
    line = f"affected users: {queue['due']:,} due, {queue['waiting']:,} due later, {queue['leased']:,} leased"
    line += f" ({queue['expired']:,} past their lease)" if queue["expired"] else ""
    oldest = queue["oldest"]
    if oldest is None:
        return f"{line}; nobody waits past the deadline"
    waits, late = span(oldest["waits_ms"]), span(oldest["late_ms"])
    return f"{line}\nlongest unanswered: {oldest['user_id']} ({oldest['class']}) waits for {waits}, {late} too long"


def _rate_words(behind: int, rate_per_s: float | None) -> list[Text]:
    if rate_per_s is None:
        return []
    left = f", {span(1000 * behind / rate_per_s)} to clear what is behind" if behind and rate_per_s > 0 else ""
    return [Text(f"applied: {rate_per_s:,.0f} offsets/s{left}")]


class Lag:
    """Looks again and again over the same connections."""

    def __init__(self, settings: ReadSettings, tables: Tables, tell: Telling) -> None:
        from streams.service.kafka import client_options

        self.settings, self.tables, self.tell = settings, tables, tell
        self.kafka = client_options(settings.connections)
        self._before: tuple[float, int] | None = None

    async def look(self, most: int, *, every: bool, rate: bool = False) -> int:
        """Show how it stands; 0, or 1 where something is further behind than `most`."""
        client, connections = self.tables.client, await asking.live(self.tables.client, self.settings.connections)
        served = await asking.serving(client, self.settings.connections)
        topics = connections.topics
        seen = await see(self.kafka, client, connections.keys, topics, self.settings.isolation)
        wanted = [*topics.user_inputs, *topics.item_inputs]
        absent = [name for name in wanted if name not in seen.topics]
        if len(absent) == len(wanted):
            self.tell.complain(asking.not_there(connections, absent))
            return BAD
        if not any((*seen.users, *seen.items)):
            self.tell.complain(asking.not_initialised(connections))
            return BAD
        now_ms = time.time_ns() // 1_000_000
        looks = await queues(client, served.keys, range(len(seen.users)), now_ms)
        known = facts(seen, looks, self.tables.declaration.delays_ms, now_ms)
        known["namespace"] = {"live": connections.namespace, "serving": served.namespace}
        said = verdict(seen.standings, absent, most)
        self.tell.facts(**known, most=most, troubles=said)
        self.tell.page(page(known, every=every, rate_per_s=self._rate(seen.standings) if rate else None))
        for sentence in said:
            self.tell.page(Text(f"✗ {sentence}", style="red"))
        if not said:
            self.tell.page(f"[green]✓[/] no partition is more than {most:,} offsets behind")
        return BAD if said else GOOD

    def _rate(self, standings: Sequence[Standing]) -> float | None:
        """Offsets a second by which the fences moved since the last look."""
        now_s, applied = time.monotonic(), sum(s.fence or 0 for s in standings)
        before, self._before = self._before, (now_s, applied)
        return None if before is None else (applied - before[1]) / max(now_s - before[0], 1e-9)


async def run(settings: ReadSettings, *, most: int, every: bool, watch_s: float | None, as_json: bool) -> int:
    """Look once, or every `watch_s` until interrupted; the verdict of the last look."""
    from streams.opened import Tables

    tables = Tables(settings)
    try:
        lag = Lag(settings, tables, Telling(as_json=as_json))
        while True:
            tell = lag.tell = Telling(as_json=as_json)
            if watch_s is not None and tell.console.is_terminal and not as_json:
                tell.console.clear()
            look = asking.answered(
                tell, settings.connections, lambda: lag.look(most, every=every, rate=watch_s is not None)
            )
            status = tell.end(await look, compact=watch_s is not None)
            if watch_s is None:
                return status
            await asyncio.sleep(watch_s)
    finally:
        await tables.close()


def lag(argv: list[str]) -> int:
    """`kairos lag`: exit code 1 when a partition is further behind than --most, or cannot be looked at."""
    from streams.service import logs, settings
    from streams.settings import ReadSettings

    made = parser(
        "lag", "How far the rows are behind the topics, and who waits for an answer.", ReadSettings, acts=False
    )
    made.add_argument(
        "--most", type=int, default=MOST_RECORDS, metavar="RECORDS", help="exit code 1 above this (%(default)s)"
    )
    made.add_argument("--all", action="store_true", help="every partition, not just those behind")
    made.add_argument(
        "--watch", nargs="?", type=float, const=2.0, metavar="SECONDS", help="again and again, every 2 seconds"
    )
    arguments = made.parse_args(argv)
    read = settings.read(ReadSettings, os.environ)
    logs.setup(read.shell.log, "critical")
    watch_s: float | None = None if arguments.watch is None else max(0.2, arguments.watch)
    return asyncio.run(run(read, most=arguments.most, every=arguments.all, watch_s=watch_s, as_json=arguments.json))
