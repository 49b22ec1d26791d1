"""What `kairos dead-letters` does: it reads in no group, tells, and puts letters back after their plan."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from streams.admin import administering, describe, most_bytes, reading
from streams.operations.breakers import open_breakers
from streams.operations.dead_letters_read import (
    DeadLettersError,
    RedriveRefused,
    Survey,
    Wanted,
    entry_of,
    letter_at,
    original,
    survey,
)
from streams.operations.dead_letters_redrive import (
    Plan,
    Redrive,
    Target,
    Targets,
    home,
    leave_out_superseded,
    make_plan,
    taking_over,
)
from streams.operations.dead_letters_show import (
    letter_facts,
    letter_page,
    list_facts,
    list_page,
    plan_facts,
    plan_page,
)
from streams.service.clock import Clock
from streams.service.kafka import client_options
from streams.service.trouble import TROUBLE
from streams.service.verb import BAD, GOOD, Telling
from streams.settings import Asking


@dataclass(frozen=True)
class Desk:
    """What a verb of this page works with."""

    tools: Asking
    tell: Telling
    arguments: argparse.Namespace

    @property
    def topic(self) -> str:
        return self.tools.connections.topics.dead_letters

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer in no group, which sees what transactions committed."""
        async with reading(client_options(self.tools.connections), isolation_level="read_committed") as consumer:
            yield consumer

    async def ground(self) -> tuple[int, Targets]:
        """Partitions of the dead letters topic, and the topics that letters go back to. Raises DeadLettersError."""
        topics = self.tools.connections.topics
        async with administering(client_options(self.tools.connections)) as admin:
            known = await describe(admin, [self.topic, *topics.user_inputs, topics.items])
            largest = await most_bytes(admin, [name for name in known if name != self.topic])
        if self.topic not in known:
            msg = f"Topic {self.topic} does not exist: run `kairos topics create`, or set KAIROS_TOPIC_PREFIX."
            raise DeadLettersError(msg)
        return known[self.topic].partitions, {
            name: Target(known[name].partitions, most) for name, most in largest.items()
        }

    def wanted(self) -> Wanted:
        """The filter that was typed."""
        typed, prefix = self.arguments, self.tools.connections.topic_prefix
        topic = typed.topic and (typed.topic if typed.topic.startswith(prefix) else prefix + typed.topic)
        key = None if typed.key is None else typed.key.encode()
        return Wanted(typed.reason, topic, key, typed.since, typed.until, frozenset(getattr(typed, "ref", ())))

    async def survey(self, consumer: AIOKafkaConsumer, partitions: int) -> Survey:
        """The letters that were asked for."""
        with self.tell.progress(f"Reading {self.topic}", 0) as bar:
            return await survey(consumer, self.topic, partitions, self.wanted(), bar)


async def work(word: str, desk: Desk) -> int:
    """Do one of list, show and redrive; the exit code."""
    steps: dict[str, Callable[[Desk], Awaitable[int]]] = {"list": _list, "show": _show, "redrive": _redrive}
    try:
        return await steps[word](desk)
    except DeadLettersError as error:
        desk.tell.complain(str(error))
        return error.exit_code
    except (KafkaError, OSError) as error:
        desk.tell.complain(f"The dead letters cannot be read ({error}): set KAIROS_KAFKA to where they are.")
        return BAD


async def _list(desk: Desk) -> int:
    partitions, _ = await desk.ground()
    async with desk.reading() as consumer:
        found = await desk.survey(consumer, partitions)
    now_ms, newest = Clock()(), desk.arguments.limit
    desk.tell.facts(**list_facts(found, now_ms, newest))
    if not found.entries:
        return _nothing(desk)
    desk.tell.page(list_page(found, now_ms, newest))
    return GOOD


async def _show(desk: Desk) -> int:
    at, (partitions, targets) = desk.arguments.ref, await desk.ground()
    async with desk.reading() as consumer:
        record, letter = await letter_at(consumer, desk.topic, partitions, at)
        found = await survey(consumer, desk.topic, partitions, Wanted(places=frozenset({at})))
        lies = await original(consumer, letter, {name: target.partitions for name, target in targets.items()})
    state = "re-driven" if entry_of(at, record.timestamp, letter).origin in found.redriven else "waiting"
    facts = letter_facts(at, record.timestamp, letter, state, lies, home(letter, targets))
    desk.tell.facts(**facts)
    desk.tell.page(letter_page(facts, letter.value))
    return GOOD


async def _redrive(desk: Desk) -> int:
    """With --execute the run before is fenced off first: the markers read after that are all there will be."""
    partitions, targets = await desk.ground()
    if not desk.arguments.execute:
        async with desk.reading() as consumer:
            return (await _plan(desk, consumer, partitions, targets))[0]
    async with taking_over(desk.tools.connections, targets) as producer, desk.reading() as consumer:
        status, plan = await _plan(desk, consumer, partitions, targets)
        if plan is None or not plan.chosen:
            return status
        if sentences := await _open(desk, plan):
            raise RedriveRefused(sentences)
        run = Redrive(producer, desk.tools.connections.topics, targets)
        with desk.tell.progress("Re-driving", len(plan.chosen), "letters") as bar:
            try:
                await run.run(consumer, plan, bar, rate_per_s=desk.arguments.rate)
            finally:
                desk.tell.facts(redriven=run.done, transactions=run.transactions)
    desk.tell.page(f"Done: {run.done:,} put back, each of them marked. Transactions: {run.transactions:,}.")
    return GOOD


async def _plan(desk: Desk, consumer: AIOKafkaConsumer, partitions: int, targets: Targets) -> tuple[int, Plan | None]:
    """The status so far and the plan, told; no plan where no letter was asked for."""
    topics, typed = desk.tools.connections.topics, desk.arguments
    found = await desk.survey(consumer, partitions)
    if not found.entries:
        return _nothing(desk), None
    plan = make_plan(found, topics, targets, most_attempts=typed.max_attempts, limit=typed.limit)
    await leave_out_superseded(consumer, plan, topics, targets)
    if not plan.chosen:
        desk.tell.facts(plan=plan_facts(plan), executed=False)
        desk.tell.page(plan_page(plan))
        return GOOD, plan
    desk.tell.plan(plan_facts(plan), plan_page(plan), execute=typed.execute)
    if not typed.execute:
        for sentence in await _open(desk, plan):
            desk.tell.page(sentence)
    return GOOD, plan


def _nothing(desk: Desk) -> int:
    wanted = desk.wanted()
    filtered = wanted != Wanted()
    desk.tell.complain(f"No dead letter {'of these ' * filtered}is kept in {desk.topic}.")
    return BAD


async def _open(desk: Desk, plan: Plan) -> list[str]:
    """A sentence for each breaker that is open on a topic of the plan; not to know is told and hinders nothing."""
    topics = {entry.origin.topic for entry in plan.chosen}
    try:
        found = await open_breakers(desk.tools.connections)
    except TROUBLE as error:
        desk.tell.page(f"Whether a breaker is open is not known, Redis does not answer: {error}")
        return []
    sentences = [str(breaker) for breaker in found if breaker.topic in topics]
    desk.tell.facts(breakers=sentences)
    return sentences
