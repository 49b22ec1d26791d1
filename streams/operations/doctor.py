"""The story of `kairos doctor`: all that can be ill is looked at once, each trouble is told with its remedy."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Group
from rich.text import Text

from schemas.keys import Keys
from streams.admin import administering, describe
from streams.operations import asking
from streams.operations.checkup import here, kafka, letters, tables
from streams.operations.checkup import redis as redis_look
from streams.operations.lag import MOST_RECORDS, waiting
from streams.operations.standing import Seen, see
from streams.service.findings import Finding, Section, as_facts, looked, worst
from streams.service.kafka import client_options
from streams.service.namespaces import InForce, in_force, runs, schema_of
from streams.service.settings import SettingsError
from streams.service.verb import BAD, GOOD, Telling, parser
from streams.settings import StreamSettings
from streams.tables.survey import queues

if TYPE_CHECKING:
    from streams.opened import Tables

S = TypeVar("S", bound=StreamSettings)
Further = Callable[[], Section]
"""A look of another room that blocks: at the model bundle."""

MARKS = {"green": "✓", "yellow": "!", "red": "✗"}


class Doctor:
    """Looks at one installation. What cannot be reached is a finding; what depends on it is left out and says so."""

    def __init__(self, settings: StreamSettings, env: Mapping[str, str], known: Collection[str] = ()) -> None:
        self.settings, self.env, self.known = settings, env, known
        self.connections = settings.connections
        self.kafka = client_options(settings.connections)

    async def examine(self, further: Sequence[tuple[str, Further]] = ()) -> list[Section]:
        """All sections in the order of the page; raises nothing."""
        sections = [here.look_at_versions(), here.look_at_settings(self.settings, self.env, self.known)]
        opened = await looked_at_features(self.settings)
        if isinstance(opened, Section):
            return [*sections, opened]
        try:
            found = await asyncio.gather(
                looked("kafka", lambda: kafka.look_at_kafka(self.kafka)),
                looked("redis", lambda: redis_look.look_at_redis(opened.client)),
                *[looked(name, lambda look=look: asyncio.to_thread(look)) for name, look in further],  # type: ignore[misc]
            )
            brokers, servers, *others = self._named(found)
            sections += [brokers, servers]
            if _answers(brokers) and _answers(servers):
                sections += await self._both(opened)
            elif _answers(servers):
                sections.append(_left_out("topics, rows, workers and dead letters", "Kafka"))
            else:
                sections.append(_left_out("topics, rows, memory and affected users", "Redis"))
            return [*sections, *others]
        finally:
            await opened.close()

    def _named(self, found: Sequence[Section]) -> Sequence[Section]:
        """Say in one sentence where a server that does not answer is expected."""
        for section, silent in zip(found, (asking.kafka_silent, asking.redis_silent), strict=False):
            if not _answers(section):
                reason = section.findings[0].what.partition(": ")[2] or section.findings[0].what
                what, _, remedy = silent(self.connections, OSError(reason)).rpartition(". ")
                section.findings[:] = [Finding("red", f"{what}.", remedy)]
        return found

    async def _both(self, opened: Tables) -> list[Section]:
        """What needs Kafka and Redis."""
        client, now_ms = opened.client, time.time_ns() // 1_000_000
        force = InForce(self.connections.namespace, self.connections.namespace)
        seen: Seen | None = None

        async def look_at_rows() -> Section:
            nonlocal force, seen
            force = await in_force(client, self.connections.namespace)
            live = await asking.live(client, self.connections)
            seen = await see(self.kafka, client, live.keys, live.topics, self.settings.isolation)
            return tables.look_at_rows(seen, MOST_RECORDS, now_ms)

        rows = await looked("rows", look_at_rows)
        if seen is None:
            return [rows, _left_out("memory, workers, affected users and dead letters", "what holds the rows")]
        return await Sight(self, opened, seen, force, now_ms).sections(rows)


class Sight:
    """The looks that go on from where every partition stands."""

    def __init__(self, doctor: Doctor, opened: Tables, seen: Seen, force: InForce, now_ms: int) -> None:
        self.doctor, self.opened, self.seen, self.force, self.now_ms = doctor, opened, seen, force, now_ms
        self.live = asking.named(doctor.connections, force.live)
        self.served = asking.named(doctor.connections, force.serving)
        self.settings = dataclasses.replace(doctor.settings, connections=self.live)

    async def sections(self, rows: Section) -> list[Section]:
        """In the order of the page."""
        looks: dict[str, Any] = {
            "topics": self._topics,
            "workers": lambda: kafka.look_at_workers(self.doctor.kafka, self._groups()),
            "dead letters": self._letters,
            "namespaces": self._namespaces,
            "affected users": self._users,
            "memory": lambda: redis_look.look_at_memory(
                self.opened.client, self.live.keys, len(self.seen.users), len(self.seen.items)
            ),
        }
        found = dict(zip(looks, await asyncio.gather(*[looked(n, look) for n, look in looks.items()]), strict=True))
        order = ("namespaces", "topics", "rows", "workers", "dead letters", "affected users", "memory")
        return [{**found, "rows": rows}[name] for name in order]

    def _groups(self) -> dict[str, tuple[int, int]]:
        """Partitions and offsets behind of each side's consumer group."""
        groups = {}
        for side, inputs in (("users", self.live.topics.user_inputs), ("items", self.live.topics.item_inputs)):
            mine = [standing for standing in self.seen.standings if standing.topic in inputs]
            groups[self.settings.group_of(side)] = (len(mine), sum(standing.behind for standing in mine))
        return groups

    async def _topics(self) -> Section:
        from streams.opened import Tables

        topics, longest_ms = self.live.topics, max(w.length_ms for w in self.opened.declaration.windows)
        tables_in_force = Tables(self.settings)
        try:
            return await kafka.look_at_topics(self.doctor.kafka, topics, tables_in_force.of_topics(topics), longest_ms)
        finally:
            await tables_in_force.close()

    async def _letters(self) -> Section:
        async with administering(self.doctor.kafka) as admin:
            topics = self.live.topics
            known = await describe(admin, [*topics.user_inputs, topics.dead_letters])
        return await letters.look_at_letters(self.doctor.kafka, topics, known, self.now_ms)

    async def _namespaces(self) -> Section:
        installation, client, mine = (
            self.doctor.connections.namespace,
            self.opened.client,
            self.opened.declaration.schema,
        )
        there = await schema_of(client, Keys(self.force.live))
        return tables.look_at_namespaces(installation, self.force, await runs(client, installation), there, mine)

    async def _users(self) -> Section:
        numbers = range(len(self.seen.users))
        looks = await queues(self.opened.client, self.served.keys, numbers, self.now_ms)
        return tables.look_at_users(waiting(looks, self.opened.declaration.delays_ms, self.now_ms))


async def looked_at_features(settings: StreamSettings) -> Tables | Section:
    """The tables, or what is wrong with the declaration that they would be read by."""
    from streams.opened import Tables

    try:
        return Tables(settings)
    except Exception as error:  # whatever a features.toml can hold
        section = Section("features")
        section.red(str(error), "Mend the file that KAIROS_FEATURES names.")
        return section


def page(sections: Sequence[Section]) -> Group:
    """One page for people."""
    lines: list[Text] = []
    for section in sections:
        lines.append(Text(section.name, style="bold"))
        for finding in section.findings:
            lines.append(Text(f"  {MARKS[finding.state]} ", style=finding.state).append(finding.what, style="default"))
            if finding.remedy:
                lines.append(Text(f"    → {finding.remedy}", style="dim"))
    return Group(*lines, Text(), Text(summary(sections), style=f"bold {worst(s.state for s in sections)}"))


def summary(sections: Sequence[Section]) -> str:
    """The verdict in a line."""
    states = [finding.state for section in sections for finding in section.findings]
    red, yellow = states.count("red"), states.count("yellow")
    if not red and not yellow:
        return "green: nothing is wrong"
    troubles = f"{red} trouble{'s' if red != 1 else ''}" if red else "no trouble"
    watch = f", {yellow} thing{'s' if yellow != 1 else ''} to look at" if yellow else ""
    return f"{worst(section.state for section in sections)}: {troubles}{watch}"


def run(
    argv: list[str], cls: type[S], further: Callable[[S], Sequence[tuple[str, Further]]], known: Collection[str]
) -> int:
    """`kairos doctor` with the looks of other rooms, made from the settings `cls`; 1 when something is red."""
    from streams.service import logs, settings

    made = parser("doctor", "All that is wrong, and what to do about it, on one page.", cls, acts=False)
    tell = Telling(as_json=made.parse_args(argv).json)
    logs.setup("text", "critical")
    try:
        read = settings.read(cls, os.environ)
        sections = asyncio.run(Doctor(read, os.environ, known).examine(further(read)))
    except SettingsError as error:
        section = Section("settings")
        for problem in error.problems:
            section.red(problem, "Set it right, or unset it; `kairos worker --help` lists all settings.")
        sections = [here.look_at_versions(), section]
    tell.facts(verdict=worst(section.state for section in sections), sections=as_facts(sections))
    tell.page(page(sections))
    return tell.end(BAD if any(section.state == "red" for section in sections) else GOOD)


def _answers(section: Section) -> bool:
    """Whether the server could be looked at, whatever was found there."""
    return bool(section.facts)


def _left_out(what: str, silent: str) -> Section:
    section = Section("not looked at")
    section.yellow(f"{what}: {silent} does not answer.", "Mend that first, and ask again.")
    return section
