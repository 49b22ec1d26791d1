"""Seeded shop events as chunks of one partition, and the rows they must come to whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import TypeVar

import numpy as np
import orjson

from schemas.events import decode_run
from schemas.partition import partition_of
from schemas.topics import Topics
from streams.chunks.chunk import Chunk, LogFacts, Record
from streams.features.columns import Encoder
from streams.features.declaration import DEFAULT
from streams.features.fold import fold_users
from streams.features.rows import Layout, RowSlab
from streams.item_pipeline import ItemPipeline
from streams.pipeline import Pipeline
from streams.tables.attempt import Verdict
from streams.tables.errors import Rewind, Stale
from streams.tables.fenced import FencedTable
from streams.tables.part import Outcome
from streams.tables.users import UserChange
from streams.tables.weather import STALE, never
from streams.testing import log as testing_log

C = TypeVar("C")

TOPICS = Topics()
LAYOUT = Layout(DEFAULT)
ENCODER = Encoder(DEFAULT)
NOW_MS = 1_800_000_000_000
PARTITIONS = 4
PARTITION = 1
USERS = [user for user in (f"u{i}" for i in range(400)) if partition_of(user.encode(), PARTITIONS) == PARTITION]
KINDS = {
    TOPICS.clicks: ["click"],
    TOPICS.browses: ["browse"],
    TOPICS.orders: ["add-to-cart", "purchase", "return"],
}
Raw = testing_log.Record
SCENES = [{"device": "phone", "zone": "Europe/Paris"}, {"device": "desktop", "page": "cart", "region": "BR-SP"}, None]


def event(user: str, *, kind: str = "click", item: str = "i1", ts_ms: int = NOW_MS - 60_000, **more: object) -> bytes:
    """One event on the wire."""
    return orjson.dumps({"user_id": user, "item_id": item, "kind": kind, "ts_ms": ts_ms, **more})


def records(topic: str, n: int, *, seed: int = 0, first: int = 0, gaps: bool = False) -> list[Raw]:
    """`n` records of one partition, a few late; with `gaps` some offsets are missing, as after transactions."""
    random = Random(f"{topic} {seed}")
    made, offset = [], first
    for i in range(n):
        user = random.choice(USERS)
        ts_ms = NOW_MS - 3_600_000 + i * 100 - random.choice([0, 0, 0, 600_000])
        scene = random.choice(SCENES)
        value = event(
            user,
            kind=random.choice(KINDS[topic]),
            item=f"i{random.randrange(60)}",
            ts_ms=ts_ms,
            dwell_ms=random.randrange(9_000),
            price=random.randrange(100) / 4,
            **({"scene": scene} if scene else {}),
        )
        made.append(Raw(offset, user.encode(), value))
        offset += 1 + (gaps and random.random() < 0.1)
    return made


def chunks(topic: str, log: Sequence[Raw], size: int = 50, *, prev: int | None = None) -> list[Chunk]:
    """The records cut into chunks of at most `size`, stamped as the consumer stamps them."""
    before = log[0].offset - 1 if prev is None else prev
    made = []
    for i in range(0, len(log), size):
        run = log[i : i + size]
        made.append(testing_log.cut(topic, PARTITION, run, prev=before))
        before = run[-1].offset
    return made


def change(log: Sequence[Record]) -> UserChange:
    """What the records say, ready to be folded."""
    words = frozenset(word for kinds in KINDS.values() for word in kinds)
    run = decode_run(log, kinds=words, now_ms=NOW_MS, max_skew_ms=0, horizon_ms=400 * 86_400_000)
    assert not run.rejects
    offsets = np.array([log[i].offset for i in run.index], np.int64)
    return UserChange(offsets, [e.user_id for e in run.events], ENCODER.encode(run), NOW_MS, NOW_MS)


async def apply_one(table: FencedTable[C], chunk: Chunk, made: C, stale: Callable[[], bool] = never) -> Outcome:
    """A group of one; raises Rewind and Stale, which are verdicts of a member."""
    return _told(*await table.apply([(chunk, made)], lambda _chunk: stale()))


async def process_one(pipeline: Pipeline | ItemPipeline, chunk: Chunk, stale: Callable[[], bool] = never) -> Outcome:
    """A group of one; raises Rewind."""
    (verdict,) = await pipeline.process([chunk], lambda _chunk: stale())
    if isinstance(verdict, Rewind):
        raise verdict
    return verdict


def _told(verdict: Verdict) -> Outcome:
    if isinstance(verdict, Rewind):
        raise verdict
    if verdict is Outcome.STALE:
        raise Stale(STALE)
    return verdict


def items(log: Sequence[Raw]) -> list[str]:
    """The item of each record."""
    return [orjson.loads(record.value or b"")["item_id"] for record in log]


def truth(*logs: Iterable[Raw]) -> dict[bytes, bytes]:
    """The row of every user after all these records, each applied exactly once."""
    whole = change([record for log in logs for record in log])
    slab = RowSlab(LAYOUT)
    slots = slab.slots_or_add(whole.users)
    fold_users(LAYOUT, slab.rows, slots, whole.columns)
    packed = LAYOUT.pack(slab.rows[: len(slab)])
    return {user.encode(): bytes(row) for user, row in zip(slab.slot_of, packed, strict=True)}


def facts(topic: str, **said: object) -> LogFacts:
    """What the broker says about the partition, unless `said` otherwise."""
    usual = LogFacts(topic, PARTITION, log_start=0, log_end=1_000_000, topic_id="id-1", partitions=PARTITIONS)
    return usual._replace(**said)  # type: ignore[arg-type]
