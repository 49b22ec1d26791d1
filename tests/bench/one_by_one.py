"""A plain worker, as a process: each affected user alone from the lease to the acknowledgement, nothing overlapped.

It is made of the model worker's own parts, so what it lacks is batches and the steps that go on beside each other.
"""

import asyncio
import sys

from model_server import cli, worker
from model_server.forward import Forwarded, prepare
from model_server.queue import Taken
from model_server.rescoring import Rescoring


class OneByOne(Rescoring):
    """Lease one user, read, score, decide, produce, acknowledge; then the next."""

    async def _tell(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            around = [tasks.create_task(each) for each in self._around()]
            while not self._stopping:
                taken = await self._lease(self.parts.clock(), 1)
                if taken.leases:
                    await self._serve(taken)
                else:
                    await asyncio.sleep(self.parts.settings.queue_poll_ms / 1000)
            for task in around:
                task.cancel()

    async def _serve(self, taken: Taken) -> None:
        parts = self.parts
        await self._receive(taken.leases)
        now_ms, ranker = parts.clock(), parts.rankers.current()
        batch = self._batcher.take(now_ms, drain=True)
        if batch is None:
            await self._emit(self._ended.get_nowait() or [])
            return
        prepared = prepare(parts.layout, parts.calendar, batch.users, now_ms)
        parts.items.advance()
        scored = ranker.score(prepared.requests, parts.items.arrays, now_ms)
        parts.metrics.batch_scored(batch, scored)
        await self._emit(self._settle(Forwarded(prepared, scored, ranker.version)))


if __name__ == "__main__":
    vars(worker)["Rescoring"] = OneByOne  # All else of a model worker's life is as ever.
    sys.exit(cli.model(sys.argv[1:]))
