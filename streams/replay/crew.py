"""The child processes of a replay, as the parent sees them: it gives out jobs, adds up what they say, and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from streams.replay.job import Job, Said, added, encode, read_said, shares
from streams.replay.ranges import ReplayError

END_WITHIN_S = 20.0


class ChildGone(ReplayError):
    """A child process ended without a word."""

    exit_code = 1


class Crew:
    """Child processes that wait for jobs; `stop` tells them to finish what is under way."""

    def __init__(self, children: Sequence[asyncio.subprocess.Process]) -> None:
        self._children = children
        self.stopped = False

    async def do(self, job: Job, told: Callable[[int], None]) -> Said:
        """Give out a job by partition; `told` hears how many records are behind all of them.

        What they said in the end, as one. Raises ReplayError with the sentence of a child that failed.
        """
        parts = shares(job, len(self._children))
        done = [0] * len(parts)

        def heard(number: int, records: int) -> None:
            done[number] = records
            told(sum(done))

        asked = [
            asyncio.create_task(self._ask(child, part, lambda records, at=at: heard(at, records)))  # type: ignore[misc]
            for at, (child, part) in enumerate(zip(self._children, parts, strict=False))
        ]
        try:
            said = await asyncio.gather(*asked)
        finally:
            for task in asked:
                task.cancel()
        return Said(
            sum(done), over=True, stopped=any(one.stopped for one in said), counts=added([one.counts for one in said])
        )

    def stop(self) -> None:
        """Close the input of all, by which they know."""
        self.stopped = True
        for child in self._children:
            if child.stdin is not None:
                child.stdin.close()

    async def _ask(self, child: asyncio.subprocess.Process, job: Job, told: Callable[[int], None]) -> Said:
        if child.stdin is None or child.stdout is None or self.stopped:
            return Said(over=True, stopped=True)
        child.stdin.write(encode(job) + b"\n")
        while line := await child.stdout.readline():
            said = read_said(line)
            if said.error:
                failed = ReplayError(said.error)
                failed.exit_code = said.code
                raise failed
            told(said.done)
            if said.over:
                return said
        code = await child.wait()
        message = (
            f"A process of the replay ended without a word (status {code}). What was folded is kept: run the same "
            "command again to go on."
        )
        raise ChildGone(message)


@asynccontextmanager
async def crew(processes: int) -> AsyncIterator[Crew]:
    """Start so many children, in sessions of their own: Ctrl-C is the parent's to hear."""
    command = [sys.executable, "-m", "streams.replay.child"]
    children = [
        await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True
        )
        for _ in range(processes)
    ]
    made = Crew(children)
    try:
        yield made
    finally:
        made.stop()
        for child in children:
            try:
                async with asyncio.timeout(END_WITHIN_S):
                    await child.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
