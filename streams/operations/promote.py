"""`kairos promote RUN`: the steps by which readers and writers move from one namespace to another. Read this first.

    moving     `live` is the run: stream workers leave the old namespace in order and go on in the run, each partition
               where the run's own fence says. Ends when nobody folds into the old one and the run has applied all that
               the old one has: no gap, no double.
    queues     Who is queued in the old namespace is moved to the run's queue, until nobody there is leased either:
               from then on no model worker can hold a user whom another one finds in the run.
    sweeping   `serving` is the run: model workers, inspect and the rest follow. What a straggler put into the old
               queue is moved, and the promotion is over.

What is written says where we are, each time in one step that compares first: run again after a kill, the command goes
on from there. Going back is the same with the roles changed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable

from schemas.keys import Keys
from streams.operations.burying import bury
from streams.operations.catching_up import SOON, CatchingUp
from streams.operations.promote_plan import Plan, Refusal
from streams.service import namespaces, roll
from streams.service.namespaces import InForce
from streams.service.redis import Client
from streams.settings import FoldSettings
from streams.tables import queues, scan
from streams.tables.look import partitions_of
from streams.tables.queues import Turn

MOVING, QUEUES, SWEEPING = "moving", "queues", "sweeping"
PAUSE_S = 0.1
WITHIN_S = 90.0
"""How long one step may take: the lease of a worker that died, and a group that settles without it."""
MOMENT_S, LEVEL_WITHIN_S = 2.0, 10.0
"""How long the old namespace may apply nothing of what it lacks of the run's: first while both follow the log, then
at the most."""
LOGS_KEPT = 8
Log = tuple[str, int, bytes]
"""A topic, one of its partitions, and the topic's id: a topic that was created again is another log."""


class NotYetError(Exception):
    """A step did not come to its end; what is done stays done."""

    exit_code = 1


class Promotion:
    """Brings `plan.target` into force; `hear` is told of every step before it is taken, and how far catching up is."""

    def __init__(self, client: Client, settings: FoldSettings, plan: Plan, hear: Callable[..., None]) -> None:
        self.client, self.settings, self.plan, self.hear = client, settings, plan, hear
        self.installation, self.topics = settings.connections.namespace, settings.connections.topics
        self._shared = {*self.topics.user_inputs, self.topics.items}
        self.seconds: dict[str, float] = {}
        self._turn = Turn(client, self.installation, f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}")

    async def run(self) -> InForce:
        """Take all steps that are left; what is in force then. Raises Refusal, NotYetError and what ends a worker."""
        await self._take_turn()
        try:
            force, target = await self._force(), self.plan.target
            if force.step == SWEEPING:
                force = await self._timed(SWEEPING, self._sweep, force)
            if not force.step:
                if force.live == target:
                    return force
                force = await self._timed("catching up", self._near, force)
            if force.target != target:
                force = await self._timed("beginning", self._begin, force)
            steps = {MOVING: self._move, QUEUES: self._queue, SWEEPING: self._sweep}
            for name in list(steps)[list(steps).index(force.step) :]:
                force = await self._timed(name, steps[name], force)
            return force
        finally:
            await self._turn.end()

    async def _timed(self, name: str, step: Callable[[InForce], Awaitable[InForce]], force: InForce) -> InForce:
        self.hear(name)
        started_s = time.monotonic()
        force = await step(force)
        self.seconds[name] = round(time.monotonic() - started_s, 3)
        return force

    async def _near(self, force: InForce) -> InForce:
        """Bring the run near the live tail, by its followers or by ourselves, with nobody queued twice over."""
        plan, within = self.plan, self.settings.within(self.plan.target)
        if plan.lag > SOON or plan.force.step:  # what was seen while another promotion was under way is no lag
            await CatchingUp(self.client, within, force.live, self._tell_lag).run()
        lacking = await self._lacking(force.live, plan.target, MOMENT_S)
        if lacking:
            await bury(self.client, within, force.live, self._keep_turn)
        # Who is queued in the run by what the old namespace has applied as well is queued, or was scored, there.
        if lacking.isdisjoint(self.topics.user_inputs):
            await self._empty_queues(force)
        return force

    async def _empty_queues(self, force: InForce) -> None:
        target = self.plan.target
        if not await queues.empty(self.client, self.plan.keys, self.plan.partitions, self._turn.until_ms):
            return
        if not (await self._lacking(force.live, target, LEVEL_WITHIN_S)).isdisjoint(self.topics.user_inputs):
            text = (
                f"Namespace {force.live} does not apply what {target} has applied: see that `kairos worker` runs, and "
                "start this again. Nothing has moved."
            )
            raise NotYetError(text)

    async def _tell_lag(self, left: int) -> None:
        self.hear("catching up", left)
        await self._keep_turn()

    async def _begin(self, force: InForce) -> InForce:
        """Point the stream workers to the run; or, from a promotion of another kind under way, back."""
        target = self.plan.target
        return await self._write(force, force._replace(live=target, origin=force.live, target=target, step=MOVING))

    async def _move(self, force: InForce) -> InForce:
        async def moved() -> str:
            there = await roll.present(self.client, self.installation)
            late = [m.words for m in there if m.kind == "stream" and m.namespace == force.origin]
            if late:
                return f"still in {force.origin}: {', '.join(late)}"
            behind = await self._behind(force.origin, force.target)
            return f"{force.target} has {behind:,} records to apply that {force.origin} has" if behind else ""

        await self._until(moved)
        return await self._write(force, force._replace(step=QUEUES))

    async def _queue(self, force: InForce) -> InForce:
        async def drained() -> str:
            left = await self._drain(force)
            return f"{left.leased:,} users are leased in {force.origin}" if left.leased or left.queued else ""

        await self._until(drained)
        wanted = force._replace(step=SWEEPING)
        if force.serving != force.target:
            former = [name for name in force.logs if name not in (force.origin, force.target)]
            logs = (force.origin, *former)[:LOGS_KEPT]
            wanted = wanted._replace(serving=force.target, previous=force.origin, logs=logs)
        return await self._write(force, wanted)

    async def _sweep(self, force: InForce) -> InForce:
        await self._drain(force)
        return await self._write(force, force._replace(origin="", target="", step=""))

    async def _drain(self, force: InForce) -> queues.Left:
        old, new = Keys(force.origin), Keys(force.target)
        counts = [await partitions_of(self.client, keys.user_tag(0)) or 0 for keys in (old, new)]
        return await queues.move(self.client, old, new, *counts)

    async def _fences(self, namespace: str) -> dict[Log, int]:
        """Last applied offsets of what both sides read; a namespace's own deltas are no log that another one has."""
        keys, found = Keys(namespace), dict[Log, int]()
        for tag in (keys.user_tag, keys.item_tag):
            count = await partitions_of(self.client, tag(0)) or 0
            for partition, meta in enumerate(await scan.metas(self.client, [tag(p) for p in range(count)])):
                fences = {topic: at for topic, at in scan.fences(meta).items() if topic in self._shared}
                found |= {(topic, partition, meta.get(f"i:{topic}".encode(), b"")): at for topic, at in fences.items()}
        return found

    async def _behind(self, ahead: str, behind: str) -> int:
        """Records that `ahead` has applied and `behind` has not, of logs that both were built from."""
        one, other = await self._fences(ahead), await self._fences(behind)
        return sum(max(0, one[log] - other[log]) for log in one.keys() & other.keys())

    async def _lacking(self, namespace: str, ahead: str, pause_s: float) -> set[str]:
        """Topics of which a namespace has not applied all that `ahead` has by now, and for so long no record more.

        One that goes on, however slowly, is waited for: it sends its dead letters itself.
        """
        seen, had = await self._fences(ahead), dict[Log, int]()
        until_s = stands_s = time.monotonic() + WITHIN_S
        while True:
            has = await self._fences(namespace)
            lacking = {log: has.get(log, -1) for log, at in seen.items() if has.get(log, -1) < at}
            if lacking != had:
                had, stands_s = lacking, time.monotonic() + pause_s
            if not lacking or time.monotonic() >= min(until_s, stands_s):
                return {log[0] for log in lacking}
            await self._keep_turn()
            await asyncio.sleep(PAUSE_S)

    async def _until(self, done: Callable[[], Awaitable[str]]) -> None:
        """Wait until nothing is left to wait for; raises NotYetError with what is."""
        until_s = time.monotonic() + WITHIN_S
        while left := await done():
            if time.monotonic() > until_s:
                text = f"Not within {WITHIN_S:.0f} s: {left}. Start this again, it goes on from here, or add --undo."
                raise NotYetError(text)
            await self._keep_turn()
            await asyncio.sleep(PAUSE_S)

    async def _force(self) -> InForce:
        return await namespaces.in_force(self.client, self.installation)

    async def _write(self, seen: InForce, wanted: InForce) -> InForce:
        await self._keep_turn()
        if not await namespaces.move(self.client, self.installation, seen, wanted):
            text = f"Somebody else promotes in {self.installation}: look at `kairos promote` without --execute."
            raise NotYetError(text)
        return wanted

    async def _take_turn(self) -> None:
        """Wait for the turn of a command that was killed to end; raises Refusal when it does not."""
        for _ in range(int(2 * Turn.LASTS_MS / 1000 / PAUSE_S)):
            if await self._turn.take():
                return
            await asyncio.sleep(PAUSE_S)
        text = f"Another `kairos promote` runs for {self.installation}: let it end."
        raise Refusal(text)

    async def _keep_turn(self) -> None:
        if not await self._turn.take():
            text = f"Another `kairos promote` for {self.installation} took over: let it end."
            raise NotYetError(text)
