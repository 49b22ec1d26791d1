"""One process of a replay: jobs come in on standard input, what became of them goes out, and its end ends the process.

A parent that is gone closes the input, however it went: then the chunk under way is finished and nothing else begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time

from aiokafka.errors import KafkaError

from streams.features.blobs import UnreadableError
from streams.opened import declared
from streams.replay.folding import Folding
from streams.replay.job import Job, Said, encode, read_job
from streams.replay.ranges import ReplayError
from streams.replay.work import Items, Users, Work
from streams.service import logs, loop, settings
from streams.service.outbox import OutboxError
from streams.settings import FoldSettings
from streams.tables.errors import TableError

TELL_EVERY_S = 0.25
LONGEST_LINE_BYTES = 64 << 20


def work_of(job: Job, read: FoldSettings) -> Work:
    """What the job's side does with chunks."""
    if job.side == "count":
        from streams.replay.counting import Counting

        return Counting(job, read, declared(read))
    return Users(job, read) if job.side == "users" else Items(job, read)


class Child:
    """Takes one job after the other."""

    def __init__(self, read: FoldSettings) -> None:
        self.read = read
        self._folding: Folding | None = None
        self._stopped = False
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def run(self) -> int:
        """Work until the input ends."""
        reader = asyncio.StreamReader(limit=LONGEST_LINE_BYTES)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        listening = asyncio.create_task(self._listen(reader))
        while (line := await self._lines.get()) and not self._stopped:
            await self._work(read_job(line))
        listening.cancel()
        return 0

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Hear the end of the input even while a job is under way."""
        while line := await reader.readline():
            self._lines.put_nowait(line)
        self.stop()
        self._lines.put_nowait(b"")

    def stop(self) -> None:
        """Finish what is under way and begin nothing else."""
        self._stopped = True
        if self._folding is not None:
            self._folding.stop()

    async def _work(self, job: Job) -> None:
        try:
            said = await self._fold(job)
        except* (TableError, ReplayError, OutboxError, UnreadableError) as group:
            said = Said(over=True, error=str(_first(group)), code=78)
        except* (KafkaError, OSError) as group:
            said = Said(over=True, error=f"Kafka or a file did not answer: {_first(group)!r}. Run it again to go on.")
        _say(said)

    async def _fold(self, job: Job) -> Said:
        read = self.read.within(job.run)
        work = work_of(job, read)
        folding = self._folding = Folding(job, read, work)
        loop.calm_the_collector()
        began_s, cpu_s = time.monotonic(), time.process_time()
        telling = asyncio.create_task(_tell(folding))
        try:
            await folding.run()
        finally:
            telling.cancel()
            await work.close()
        worked_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
        counts = work.counts() | {"work_ms": round(worked_s * 1000), "cpu_ms": round(cpu_s * 1000)}
        return Said(done=folding.behind, over=True, stopped=folding.stopped, counts=counts)


async def _tell(folding: Folding) -> None:
    while True:
        await asyncio.sleep(TELL_EVERY_S)
        _say(Said(done=folding.behind))


def _say(said: Said) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(encode(said) + b"\n")
        sys.stdout.buffer.flush()


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


async def _main() -> int:
    read = settings.read(FoldSettings, os.environ)
    logs.setup(read.shell.log, "warning")
    child = Child(read)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, child.stop)
    return await child.run()


if __name__ == "__main__":
    sys.exit(loop.run(_main()))
