"""The roll of an installation: every worker says twice a second that it is there, and hears what is in force."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NamedTuple

import orjson

from schemas.keys import Keys
from streams.service import namespaces
from streams.service.namespaces import InForce
from streams.service.redis import Client
from streams.service.trouble import TROUBLE
from streams.service.waiting import still_wanted

POLL_S, MOVING_POLL_S = 0.5, 0.1
"""How often a worker calls, and how often while a promotion is under way, which waits for it."""
PRESENT_S = 10
"""A worker that said nothing for so long is taken for gone."""

LEAVE_WITHIN_S = 1.0

log = logging.getLogger(__name__)


class Member(NamedTuple):
    """A worker as it tells of itself: `schema` is that of the rows it can read.

    `namespace` is where it works, empty while it waits; `pinned` says that it stays there.
    """

    id: str
    kind: Literal["stream", "model"]
    place: str
    version: str
    schema: int
    namespace: str = ""
    pinned: bool = False

    @property
    def words(self) -> str:
        """Names the worker for a person."""
        where = f"in {self.namespace}" if self.namespace else "waiting"
        return (
            f"kairos {'worker' if self.kind == 'stream' else 'model'} at {self.place} ({where}, schema {self.schema})"
        )


def myself(kind: Literal["stream", "model"], schema: int, *, pinned: bool = False) -> Member:
    """This process."""
    try:
        own = version("kairos-push")
    except PackageNotFoundError:
        own = "unknown"
    return Member(secrets.token_hex(6), kind, f"{socket.gethostname()}:{os.getpid()}", own, schema, pinned=pinned)


class Roll:
    """One worker's place on the roll of an installation; `force` is what it heard last."""

    def __init__(self, client: Client, installation: str, member: Member) -> None:
        self.installation, self.member = installation, member
        self.force = InForce(installation, installation)
        self._client: Any = client

    def works_in(self, namespace: str) -> None:
        """Tell this from the next call on."""
        self.member = self.member._replace(namespace=namespace)

    async def call(self) -> InForce:
        """Say that we are here, and hear what is in force. Raises what a call to Redis raises."""
        key = Keys.worker(self.installation, self.member.id)
        pipe = self._client.pipeline(transaction=False)
        pipe.set(key, orjson.dumps(self.member._asdict()), ex=PRESENT_S)
        pipe.sadd(Keys.workers(self.installation), self.member.id)
        pipe.hgetall(Keys.installation(self.installation))
        self.force = namespaces.read(self.installation, (await pipe.execute())[2])
        return self.force

    async def until(self, condition: Callable[[InForce], bool]) -> InForce:
        """Call until what is in force meets the condition; trouble with Redis passes, or ends the worker elsewhere."""
        while True:
            try:
                if condition(await self.call()):
                    return self.force
            except TROUBLE as error:
                log.debug("The roll could not be called: %r", error)
            still_wanted()
            await asyncio.sleep(MOVING_POLL_S if self.force.step else POLL_S)

    async def run_waited_for(self, namespace: str) -> str:
        """See `namespaces.run_waited_for`."""
        return await namespaces.run_waited_for(self._client, self.installation, namespace, self.member.schema)

    async def leave(self) -> None:
        """Be gone at once."""
        try:
            async with asyncio.timeout(LEAVE_WITHIN_S):
                await self._client.delete(Keys.worker(self.installation, self.member.id))
                await self._client.srem(Keys.workers(self.installation), self.member.id)
        except TROUBLE as error:
            log.debug("Nothing took our name off the roll, it falls off by itself: %r", error)


async def present(client: Client, installation: str) -> list[Member]:
    """The workers of an installation that are there; names of those that are gone are taken off."""
    redis: Any = client
    ids = [name.decode() for name in await redis.smembers(Keys.workers(installation))]
    if not ids:
        return []
    told = await redis.mget([Keys.worker(installation, each) for each in ids])
    if gone := [each for each, words in zip(ids, told, strict=True) if words is None]:
        await redis.srem(Keys.workers(installation), *gone)
    return sorted(Member(**orjson.loads(words)) for words in told if words is not None)


Ride = Callable[[str, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Rides out trouble with Redis in a call that it is given a name for."""


async def place(roll: Roll, ride: Ride, say: Callable[[str], None], *, serving: bool) -> InForce:
    """What is in force once this process can read it: waits for the promotion of a run whose rows are of our schema.

    `say` is told whom we wait for, and an empty text when that is over.
    """
    while True:
        force: InForce = await ride("asking which namespace is in force", roll.call)
        here = force.serving if serving else force.live
        run = await ride("reading a row's schema", partial(roll.run_waited_for, here))
        if not run:
            say("")
            return force
        say(
            f"Namespace {here} holds rows of another declaration than this process reads; it begins when run {run}, "
            f"which has ours, is in force: `kairos promote {run} --execute`."
        )
        await asyncio.sleep(POLL_S)
