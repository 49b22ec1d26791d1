"""Reads everything the event topics hold, once, from the first record to the last one at the start of the reading.

Read `read_topics` first. A small log is encoded here; of a large one several processes make shards, partition by
partition. In either case events of one moment come in the order of topic, partition and offset: a log is the same log
whoever read it.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from aiokafka import TopicPartition

from model_server.ranker.cores import idle_threads
from model_server.training.erased import erased_users
from model_server.training.recorded import Part, RawEvent, Recorded, encode, together
from streams.service.entry import entering
from streams.service.kafka import client_options
from streams.service.records import reader
from streams.service.topic_ids import topic_facts

if TYPE_CHECKING:
    from model_server.training.shards import Stretch
    from streams.features.declaration import Declaration
    from streams.service.settings import Connections

FETCH = 5_000
QUIET_S = 2.0
"""A tail of commit markers ends when nothing came for so long: no record reaches it."""
ALONE = 200_000
"""Records up to which no further process is started: they take longer to start than to read that."""
Begin = Callable[[int], Callable[[int], object]]
Place = tuple[str, int]


@dataclass(frozen=True)
class Reading:
    """How the topics are read.

    shards: folder in which shards are kept, and found again; readers: processes at a time, 0 for as many as cores are
    idle; shard: offsets in one; heed_erased: leave out what people did before they were erased, of whom Redis tells.
    """

    connections: Connections
    declaration: Declaration
    zone: str
    shards: Path | None = None
    readers: int = 0
    shard: int = 200_000
    heed_erased: bool = True


class Read(NamedTuple):
    """The log of the topics, and how many events of erased people are not in it."""

    recorded: Recorded
    left_out: int


@dataclass(frozen=True)
class Found:
    """What the topics hold: first offset and end by place of the user topics, marks of topics, and the catalogue."""

    first: dict[Place, int]
    ends: dict[Place, int]
    ids: dict[str, str]
    catalogue: dict[str, dict[str, Any]]


async def read_topics(wanted: Reading, begin: Begin) -> Read:
    """The log of the user topics, with the catalogue.

    `begin` hears how many records are to be read and gives the tick. Raises KafkaError where the brokers cannot be
    reached, OSError where Redis cannot be or a shard cannot be written.
    """
    found = await _look(wanted.connections)
    partitions = 1 + max((partition for _, partition in found.ends), default=-1)
    erased = await erased_users(wanted.connections, partitions) if wanted.heed_erased else {}
    records = sum(end - found.first[place] for place, end in found.ends.items())
    if wanted.shards is None and records <= ALONE:
        parts = [await _part(wanted, found, begin(records))]
    else:
        with _folder(wanted.shards) as folder:
            parts = await _to_its_end(partial(_of_shards, wanted, found, folder, begin))
    left = [part.without(erased) for part in parts]
    return Read(together(left, found.catalogue), sum(map(_size, parts)) - sum(map(_size, left)))


async def _to_its_end(work: Callable[[Event], list[Part]]) -> list[Part]:
    """Have `work` done in a thread; when this is cancelled it hears of it, and its end is waited for."""
    interrupted = Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, interrupted))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        interrupted.set()
        await asyncio.wait([running])
        raise


async def _look(connections: Connections) -> Found:
    """Where the logs begin and end, and the whole catalogue."""
    topics = connections.topics
    async with _reading(connections) as consumer:
        # A topic of which the client knows no partition yet is asked for by name once.
        known = await consumer._client.fetch_all_metadata()
        places = [
            TopicPartition(topic, number)
            for topic in (*topics.user_inputs, topics.items)
            for number in sorted(known.partitions_for_topic(topic) or ())
        ]
        if not places:
            return Found({}, {}, {}, {})
        consumer.assign(places)
        first, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        ids = await topic_facts(consumer._client, sorted({place.topic for place in places}))
        users = [place for place in places if place.topic != topics.items]
        catalogue: dict[str, dict[str, Any]] = {}
        items = {place: (first[place], ends[place]) for place in places if place.topic == topics.items}
        async for _, records in _records(consumer, items):
            _list(catalogue, records)
        return Found(
            {(p.topic, p.partition): first[p] for p in users},
            {(p.topic, p.partition): ends[p] for p in users},
            {topic: facts.id for topic, facts in ids.items()},
            catalogue,
        )


async def _part(wanted: Reading, found: Found, tick: Callable[[int], object]) -> Part:
    """All of the user topics, encoded here."""
    spans = {TopicPartition(*place): (found.first[place], end) for place, end in found.ends.items()}
    events = await _events(wanted.connections, spans, tick)
    return await asyncio.to_thread(encode, events, wanted.declaration, wanted.zone)


def _of_shards(wanted: Reading, found: Found, folder: Path, begin: Begin, interrupted: Event) -> list[Part]:
    """The log by way of shards: those that lie there, and what is missing of them, written by several processes."""
    from model_server.training import shards

    signs = {topic: shards.mark(topic_id, wanted.declaration, wanted.zone) for topic, topic_id in found.ids.items()}
    held = shards.kept(folder, signs, found.ends)
    todo = shards.missing(held, found.first, found.ends, wanted.shard)
    tick = begin(sum(stretch.records for stretch in todo))
    files = {stretch: shards.path_of(folder, stretch, signs[stretch.topic]) for stretch in todo}
    _write(wanted, files, tick, interrupted)
    if interrupted.is_set():
        return []
    paths = [shards.path_of(folder, stretch, signs[stretch.topic]) for stretch in sorted([*held, *todo])]
    parts = [shards.read(path, wanted.declaration) for path in paths]
    return parts or [encode((), wanted.declaration, wanted.zone)]


def _write(wanted: Reading, files: Mapping[Stretch, Path], tick: Callable[[int], object], interrupted: Event) -> None:
    """Have every stretch written to its file; trouble or an interruption ends it, and what was written whole stays."""
    if not files:
        return
    readers = min(wanted.readers or idle_threads(), len(files))
    pool = ProcessPoolExecutor(readers, get_context("spawn"), _leave_interrupts_to_the_parent)
    try:
        running = {pool.submit(write_shard, wanted, stretch, path): stretch for stretch, path in files.items()}
        while running and not interrupted.is_set():
            done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                tick(running.pop(future).records)
    except BrokenProcessPool as error:
        message = "A process that read the topics was ended from outside (memory?): try fewer with --readers."
        raise OSError(message) from error
    finally:
        pool.shutdown(cancel_futures=True)


def write_shard(wanted: Reading, stretch: Stretch, path: Path) -> None:
    """Read one stretch of a partition and write its shard."""
    from model_server.training import shards

    spans = {TopicPartition(stretch.topic, stretch.partition): (stretch.first, stretch.end)}
    events = asyncio.run(_events(wanted.connections, spans, lambda _: None))
    shards.write(path, encode(events, wanted.declaration, wanted.zone), wanted.declaration)


async def _events(
    connections: Connections, spans: Mapping[TopicPartition, tuple[int, int]], tick: Callable[[int], object]
) -> list[RawEvent]:
    """The records of these offsets, partition by partition; `spans`: [first, end)."""
    topics = connections.topics
    streams = {getattr(topics, name): name for name in ("clicks", "browses", "orders", "feedback")}
    found: dict[TopicPartition, list[RawEvent]] = {place: [] for place in sorted(spans)}
    async with _reading(connections) as consumer:
        consumer.assign([*found])
        async for place, records in _records(consumer, spans):
            stream = streams[place.topic]
            found[place].extend(RawEvent(stream, record.key, record.value) for record in records)
            tick(len(records))
    return [event for place in found for event in found[place]]


async def _records(
    consumer: Any, spans: Mapping[TopicPartition, tuple[int, int]]
) -> AsyncIterator[tuple[TopicPartition, list[Any]]]:
    """Records of the offsets [first, end) of assigned partitions, as they come."""
    # By offset: a reset to the beginning may be overtaken by the answer to that to the end, which assigning began.
    for place, (first, _) in spans.items():
        consumer.seek(place, first)
    left = {place: end for place, (first, end) in spans.items() if end > first}
    others = [place for place in consumer.assignment() if place not in left]
    consumer.pause(*others)
    loop = asyncio.get_running_loop()
    heard_s = loop.time()
    while left:
        fetched = await consumer.getmany(*left, timeout_ms=500, max_records=FETCH)
        heard_s = loop.time() if fetched else heard_s
        for place, records in fetched.items():
            within = [record for record in records if record.offset < left[place]]
            if within:
                yield place, within
        over = [place for place, end in left.items() if await consumer.position(place) >= end]
        if not fetched and loop.time() - heard_s > QUIET_S:
            return
        for place in over:
            del left[place]
        consumer.pause(*over)


@asynccontextmanager
async def _reading(connections: Connections) -> AsyncIterator[Any]:
    """A started consumer of what was committed."""
    consumer = reader(isolation_level="read_committed", **client_options(connections))
    try:
        async with entering(connections):
            await consumer.start()
            await asyncio.sleep(0)  # its coordinator has to have begun before it can be stopped
        yield consumer
    finally:
        await consumer.stop()


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    """The folder of the shards, which is gone afterwards unless it is named."""
    with ExitStack() as stack:
        folder = kept or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kairos-shards-")))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        yield folder


def _size(part: Part) -> int:
    return part.columns.size


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _list(catalogue: dict[str, dict[str, Any]], records: list[Any]) -> None:
    """Take over records of the item topic; what is no JSON object is the stream worker's to refuse.

    `ts_ms` becomes the time of an item's first record, whatever the shop says: nothing of it was known before.
    """
    for record in records:
        try:
            item_id, entry = (record.key or b"").decode(), orjson.loads(record.value or b"{}")
        except ValueError:
            continue
        if isinstance(entry, dict) and entry:
            since_ms = catalogue.get(item_id, {}).get("ts_ms", record.timestamp)
            catalogue[item_id] = {**entry, "ts_ms": since_ms}
        else:
            catalogue[item_id] = {}
