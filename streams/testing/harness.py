"""Kairos in one process: the stream worker's own pipelines over topics and tables in memory, with a clock to move."""

from __future__ import annotations

import asyncio
import copy
from collections import defaultdict
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from schemas.keys import Keys
from schemas.topics import Topics
from streams.deltas import DeltaRecord
from streams.features.calendar import Calendar
from streams.features.columns import Encoder
from streams.features.declaration import DEFAULT, Declaration
from streams.features.features_file import load
from streams.pipeline import Limits, Rejected
from streams.tables.memory import MemoryStore, MemoryTag
from streams.testing.events import Draft, Message, Sendable
from streams.testing.log import Delivery, Log
from streams.testing.reading import Affected, Item, Tables, User
from streams.testing.steps import Crash, DeltaTopic, Fault, Letters, Steps
from streams.testing.times import START, Clock
from streams.testing.worker import Worker, World

T = TypeVar("T")


class Harness:
    """A shop's events in, rows, queue, dead letters and deltas out. Nothing sleeps, nothing is mocked but the servers.

    `declaration`: a Declaration, or the path of a features.toml. `faults` befall the steps of these numbers.
    """

    def __init__(  # noqa: PLR0913 - all by keyword
        self,
        declaration: Declaration | Path = DEFAULT,
        *,
        partitions: int = 4,
        item_partitions: int = 3,
        start: str | int = START,
        zone: str = "UTC",
        limits: Limits | None = None,
        delivery: Delivery | None = None,
        faults: Mapping[int, Fault] | None = None,
        encoder: Encoder | None = None,
        store: MemoryStore | None = None,
    ) -> None:
        self.declaration = load(declaration) if isinstance(declaration, Path) else declaration
        self.topics, self.zone = Topics(), zone
        self.clock = Clock(start)
        self.steps = Steps(dict(faults or {}), take_over=self._take_over)
        counts = dict.fromkeys(self.topics.user_inputs, partitions)
        self.log = Log(counts | dict.fromkeys(self.topics.item_inputs, item_partitions))
        self.world = World(
            encoder or _encoder(self.declaration, zone),
            self.topics,
            self.log,
            self.clock,
            limits or Limits(),
            Keys("test"),
            delivery or Delivery(),
            self.steps,
            MemoryStore() if store is None else store,
            Letters(self.steps),
            DeltaTopic(self.steps, self._append_delta),
        )
        self.tables = Tables(self.world.store, self.world.keys, self.declaration, partitions, item_partitions)
        at_once(Worker(self.world, "setup").initialise())
        self.workers = 0
        self.worker = self._start()

    # The shop.

    def publish(self, *messages: Sendable) -> None:
        """Put events, catalogue entries and raw messages into their topics, now; `run` applies them."""
        for message in messages:
            raw = (
                message if isinstance(message, Message) else message.message(self.declaration, self.topics, self.clock)
            )
            self.log.append(
                raw.topic, raw.key, raw.value, self.clock.now_ms, headers=raw.headers, partition=raw.partition
            )

    def play(self, *messages: Sendable) -> None:
        """Live: the clock moves on to each event's time (never back), the event is published and applied."""
        for message in messages:
            if isinstance(message, Draft):
                self.clock.reach(self.clock.at(message.at))
            self.publish(message)
            self.run()

    def advance(self, by: str | int) -> None:
        """Move the clock on by a length such as "5min", or by milliseconds."""
        self.clock.advance(by)

    # Kairos.

    def run(self) -> None:
        """Apply all that was published, whatever befalls the worker on the way; raises what would end its process."""
        at_once(self._run())

    def restart(self) -> None:
        """End the worker and start another one, which knows nothing but the store."""
        self.worker = self._start()

    def save(self) -> dict[bytes, MemoryTag]:
        """What the store holds now, for `restore`."""
        return self.world.store.snapshot()

    def restore(self, saved: Mapping[bytes, MemoryTag]) -> None:
        """Roll the store back, as a Redis does that lost its last writes; nobody tells the worker."""
        self.world.store.tags = copy.deepcopy(dict(saved))

    async def _run(self) -> None:
        self.worker = await self._finish(self.worker)

    async def _take_over(self, records: int | None) -> None:
        if records is None:
            await self._finish(self._start())
        else:
            with suppress(Crash):
                await self._start(Delivery((records,))).drain(rounds=1)

    async def _finish(self, worker: Worker) -> Worker:
        """Read everything; the worker that is alive at the end."""
        while True:
            try:
                await worker.drain()
            except Crash:
                worker = self._start()
            else:
                return worker

    def _start(self, delivery: Delivery | None = None) -> Worker:
        self.workers += 1
        return Worker(self.world, f"worker-{self.workers}", delivery)

    def _append_delta(self, record: DeltaRecord) -> None:
        self.log.append(
            self.topics.deltas,
            None,
            record.value,
            self.clock.now_ms,
            headers=tuple(record.headers),
            partition=record.partition,
        )

    # What came of it.

    def user(self, name: str) -> User | None:
        """A user's row as of now, None where nothing is known."""
        return self.tables.user(name, self.clock.now_ms)

    def item(self, name: str) -> Item | None:
        """An item's row and entry as of now, None where nothing is known."""
        return self.tables.item(name, self.clock.now_ms)

    @property
    def affected(self) -> list[Affected]:
        """Users who wait to be scored, in order of deadline."""
        return self.tables.affected()

    @property
    def letters(self) -> list[Rejected]:
        """Dead letters as they were sent; a crash may have sent some of them twice."""
        return list(self.world.letters.sent)

    @property
    def letters_by_reason(self) -> dict[str, list[Rejected]]:
        """Dead letters by reason, each record once."""
        found: defaultdict[str, dict[tuple[str, int, int], Rejected]] = defaultdict(dict)
        for letter in self.letters:
            found[letter.reason].setdefault((letter.topic, letter.partition, letter.record.offset), letter)
        return {reason: list(letters.values()) for reason, letters in found.items()}

    @property
    def deltas(self) -> list[DeltaRecord]:
        """Item deltas as they were sent."""
        return list(self.world.deltas.sent)

    @property
    def left_out(self) -> dict[str, int]:
        """Records that are neither events nor dead letters, such as "future" and "expired", as this worker counts."""
        return dict(self.worker.pipeline.stats.results)

    @property
    def rows(self) -> dict[str, bytes]:
        """The stored bytes of every row: "user NAME", "item NAME"."""
        users, items = self.tables.blobs()
        return {
            **{f"user {name}": row for name, row in users.items()},
            **{f"item {name}": row for name, row in items.items()},
        }

    @property
    def state(self) -> dict[str, object]:
        """All that must be the same however records are handed over: rows, catalogue, fences, queue, dead letters."""
        fences = {
            f"fence {name[2:].decode()} of {kind} {partition}": int(offset)
            for kind, tags in (("users", self.tables.user_tags()), ("items", self.tables.item_tags()))
            for partition, tag in enumerate(tags)
            for name, offset in tag.meta.items()
            if name.startswith(b"o:") and name != f"o:{self.topics.deltas}".encode()
        }
        letters = {f"dead letter {x.topic} {x.partition} {x.record.offset}": x.reason for x in self.letters}
        return {
            **self.rows,
            **{f"entry {name}": entry for name, entry in self.tables.catalogue().items()},
            **fences,
            **{f"queued {waiting.user}": True for waiting in self.affected},
            **letters,
        }


def at_once(waiting: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that waits for nobody else; also where an event loop runs already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(waiting)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, waiting).result()


@lru_cache(maxsize=8)
def _encoder(declaration: Declaration, zone: str) -> Encoder:
    """Encoders keep look-ups of places, which take a second to load."""
    return Encoder(declaration, Calendar(zone))
