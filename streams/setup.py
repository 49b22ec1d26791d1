"""`kairos topics`: what it does in order, and what it prints."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiokafka.errors import KafkaError
from rich.console import Console
from rich.markup import escape

from schemas.keys import Keys
from streams.admin import administering, create_topics, describe, initialise
from streams.opened import Tables
from streams.service.entry import NoEntryError, entering
from streams.service.kafka import client_options
from streams.service.namespaces import in_force
from streams.service.trouble import clause
from streams.settings import Tools
from streams.tables.erased import copy_erased
from streams.tables.errors import TableError
from streams.topic_check import check
from streams.topic_plan import TopicLayout, plan

ANSWER_WITHIN_S = 60.0


class SetUp:
    """The three verbs; each returns 0, or 1 after it has said why.

    `exact`: a topic that exists with another partition count than the layout's is a trouble, not just told.
    `erased_from`: the installation whose erased users are kept away from the new tables too, empty for none.
    """

    def __init__(
        self,
        tools: Tools,
        layout: TopicLayout,
        console: Console | None = None,
        *,
        exact: bool = False,
        erased_from: str = "",
    ) -> None:
        self.erased_from = erased_from
        self.tools, self.layout, self.exact = tools, layout, exact
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.kafka = client_options(tools.connections)
        self.planned = plan(tools.connections.topics, layout)

    async def create(self) -> int:
        """Create the topics that are missing, then initialise."""

        async def create(tables: Tables) -> int:
            async with administering(self.kafka) as admin:
                made, known = await create_topics(admin, self.planned, self.layout.replication)
            other = 0
            for topic in self.planned:
                verb, count = "created" if topic.name in made else "exists", known[topic.name].partitions
                other += count != topic.partitions
                wanted = f" [red](not {topic.partitions}: a count stays)[/]" if count != topic.partitions else ""
                self.console.print(f"{verb:>8}  {topic.name}  {count} partitions, {topic.cleanup}{wanted}")
            return await self._initialise(tables) or int(self.exact and other > 0)

        return await self._attempt(create)

    async def init(self) -> int:
        """Write ids, counts and base offsets of existing topics, unless they are written already."""
        return await self._attempt(self._initialise)

    async def check(self) -> int:
        """Print every trouble with its remedy."""

        async def look(tables: Tables) -> int:
            troubles = 0
            async with administering(self.kafka) as admin:
                topics = self.tools.connections.topics
                async for what, remedy in check(self.kafka, admin, topics, self.planned, tables.of_topics(topics)):
                    troubles += 1
                    self.console.print(
                        f"[red]✗[/] {escape(what)}" + (f"\n  [dim]→[/] {escape(remedy)}" if remedy else "")
                    )
            if not troubles:
                self.console.print("[green]✓[/] topics, keys, stored offsets and Redis are as a worker needs them")
            return 1 if troubles else 0

        return await self._attempt(look)

    async def _initialise(self, tables: Tables) -> int:
        by_topic = tables.of_topics(self.tools.connections.topics)
        async with administering(self.kafka) as admin:
            known = await describe(admin, list(by_topic))
        absent = sorted(by_topic.keys() - known.keys())
        if absent:
            self.console.print(f"[red]✗[/] {', '.join(absent)} not in Kafka\n  [dim]→[/] Run `kairos topics create`.")
            return 1
        if self.erased_from:
            # Before the tables count as initialised: nobody folds before.
            await self._keep_away(tables, known[self.tools.connections.topics.clicks].partitions)
        await initialise(self.kafka, known, by_topic)
        self.console.print(f"{'ready':>8}  offsets of {len(by_topic)} topics mean something in Redis from now on")
        return 0

    async def _keep_away(self, tables: Tables, partitions: int) -> None:
        live = (await in_force(tables.client, self.erased_from)).live
        count = await copy_erased(tables.client, Keys(live), self.tools.connections.keys, partitions)
        self.console.print(f"{'erased':>8}  {count} users of {live} are kept away from the new tables too")

    async def _in_force(self, tables: Tables) -> Tables:
        """The tables of the namespace that stream workers fold into, and its topics; closed with those given."""
        ride, namespace = tables.users.weather.ride, self.tools.connections.namespace
        force = await ride("asking which namespace is in force", lambda: in_force(tables.client, namespace))
        if force.live == namespace:
            return tables
        self.tools = self.tools.within(force.live)
        self.planned = plan(self.tools.connections.topics, self.layout)
        return Tables(self.tools, client=tables.client)

    async def _attempt(self, do: Callable[[Tables], Awaitable[int]]) -> int:
        tables = Tables(self.tools)
        try:
            async with entering(self.tools.connections), asyncio.timeout(ANSWER_WITHIN_S):
                return await do(await self._in_force(tables))
        except TableError as refusal:
            self.console.print(f"[red]✗[/] {escape(str(refusal))}")
        except NoEntryError as refusal:
            self.console.print(f"[red]✗[/] {escape(str(refusal))}")
        except (KafkaError, OSError) as error:
            where = self.tools.connections.kafka
            reason = escape(clause(error))
            self.console.print(f"[red]✗[/] Kafka at {where} does not answer: {reason}\n  [dim]→[/] Set KAIROS_KAFKA.")
        finally:
            await tables.close()
        return 1
