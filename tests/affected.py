"""A shop with affected users in Redis, a model worker over it, and what it sent: for tests of the model server."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import orjson

from model_server.scoring import I32, I64, ItemState, Ranker, Requests, Scored, Weighed, unexplained
from model_server.settings import ModelSettings
from model_server.worker import Worker
from schemas import decisions, recommendations
from schemas.events import decode_run
from schemas.items import Item, encode_item
from schemas.keys import Keys
from schemas.partition import partition_of
from streams.features.columns import Encoder
from streams.features.declaration import DEFAULT, Declaration
from streams.features.fold import fold_users
from streams.features.items import ItemEvents, ItemLayout, fold_items
from streams.features.rows import Layout, RowSlab
from streams.service.redis import Client, connect
from streams.service.settings import read
from tests.installation import Installation

KINDS = frozenset(kind.wire for kind in DEFAULT.kinds)
QUIET = {"KAIROS_QUIET_HOURS": "00:00-00:00", "KAIROS_MIN_SCORE": "0.1"}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Popular:
    """A deterministic ranker: the most popular items for everybody, scores falling by rank."""

    def __init__(self, version: str = "popular-1", seconds: float = 0.0, top: int = 5) -> None:
        self.version, self.seconds, self.top = version, seconds, top
        self.batches: list[int] = []

    def tokens(self, history: I64) -> I64:
        return 20 + history

    def begin(self, requests: Requests, items: ItemState, now_ms: int) -> Callable[[], Scored]:
        scored = self.score(requests, items, now_ms)
        return lambda: scored

    def score(self, requests: Requests, items: ItemState, now_ms: int) -> Scored:
        time.sleep(self.seconds)
        self.batches.append(len(requests.users))
        assert requests.scene.shape == (len(requests.users), len(DEFAULT.scene_names))
        totals = items.sums.totals.astype(np.int64)
        best = np.argsort(-totals, kind="stable")[: self.top]
        shape = (len(requests.users), len(best))
        final = np.broadcast_to(np.linspace(0.9, 0.5, len(best), dtype=np.float32), shape)
        return Scored(
            item=np.broadcast_to(best.astype(np.int32), shape),
            p_open=final,
            p_buy=final * np.float32(0.5),
            p_optout=np.zeros(shape, np.float32),
            p_rec=final,
            p_best=final * np.float32(0.5),
            p_anyway=np.zeros(shape, np.float32),
            grade=np.ones(shape, np.uint8),
            final=final,
            propensity=np.ones(shape, np.float32),
            reasons=np.ones(shape, np.uint32),
            reason_names=("popular",),
            retrieve_ms=0.1,
            collate_ms=0.2,
            forward_ms=0.3,
        )

    def weigh(self, requests: Requests, items: ItemState, now_ms: int, wanted: I32) -> Weighed:
        shape = (len(requests.users), len(wanted))
        return Weighed(np.zeros(shape), np.zeros((*shape, 1), np.bool_), unexplained)


class Source:
    """Gives the worker its ranker; a test sets `next` to what the next poll finds."""

    def __init__(self, ranker: Ranker) -> None:
        self.ranker = ranker
        self.next: Ranker | Exception | None = None

    def current(self) -> Ranker:
        return self.ranker

    def titles(self) -> None:
        """It reads none."""

    def poll(self) -> str | None:
        found, self.next = self.next, None
        if isinstance(found, Exception):
            raise found
        if found is None:
            return None
        self.ranker = found
        return found.version


class Sent(NamedTuple):
    """What the topics hold, in order by partition."""

    candidates: list[recommendations.Recommendation]
    decisions: list[decisions.Decision]
    records: list[Any]


class Shop:
    """Users, items and queue of one installation in Redis, written as the stream worker writes them."""

    def __init__(self, installation: Installation) -> None:
        self.installation, self.keys = installation, installation.keys
        self.redis: Any = None
        self.layout, self.items = Layout(DEFAULT), ItemLayout(DEFAULT)
        self.slab = RowSlab(self.layout)
        self.encoder = Encoder(DEFAULT)

    def settings(self, **env: str) -> ModelSettings:
        return read(ModelSettings, {**self.installation.env, **QUIET, **env})

    async def open(self) -> None:
        code, said = await self.installation.set_up()
        assert code == 0, said
        client: Client = connect(self.settings().connections)
        self.redis = client

    def tag(self, user: str) -> bytes:
        return self.keys.user_tag(partition_of(user.encode(), self.installation.partitions))

    async def list_items(self, *items: Item, clicks: int = 1) -> None:
        """Put items into the catalogue; the first ones are the most popular."""
        for place, item in enumerate(items):
            rows = self.items.empty(1)
            n = clicks + len(items) - place
            codes = np.zeros((n, len(DEFAULT.profile_names)), np.uint8)
            fold_items(
                self.items, rows, np.zeros(n, np.int64), ItemEvents(np.full(n, now_ms()), np.zeros(n, np.uint8), codes)
            )
            tag = self.keys.item_tag(partition_of(item.item_id.encode(), self.installation.item_partitions))
            await self.redis.hset(self.keys.item_rows(tag), item.item_id, bytes(self.items.pack(rows)[0]))
            await self.redis.hset(self.keys.catalogue(tag), item.item_id, encode_item(item))
            await self.redis.xadd(self.keys.touched(tag), {"ids": orjson.dumps([item.item_id])})

    async def affect(self, *events: dict[str, Any], delay_ms: int = 0, priority: int = 1) -> None:
        """Fold events into their users' rows and queue the users."""
        for event in events:
            full = {"item_id": "-", "kind": "click", "ts_ms": now_ms(), **event}
            user = str(full["user_id"])
            record = _Record(user.encode(), orjson.dumps(full))
            run = decode_run([record], kinds=KINDS, now_ms=now_ms(), max_skew_ms=0, horizon_ms=400 * 86_400_000)
            assert not run.rejects, run.rejects
            fold_users(self.layout, self.slab.rows, self.slab.slots_or_add([user]), self.encoder.encode(run))
            (blob,) = self.layout.pack(self.slab.rows[self.slab.slots([user])])
            tag = self.tag(user)
            await self.redis.set(self.keys.row(tag, user.encode()), bytes(blob))
            score = (now_ms() + delay_ms) * 4 + priority
            await self.redis.zadd(self.keys.queue(tag), {user: score}, lt=True)

    async def queued(self) -> dict[str, int]:
        """Score of every queued user."""
        found: dict[str, int] = {}
        for partition in range(self.installation.partitions):
            entries = await self.redis.zrange(self.keys.queue(self.keys.user_tag(partition)), 0, -1, withscores=True)
            found |= {user.decode(): int(score) for user, score in entries}
        return found

    async def leased(self) -> int:
        tags = map(self.keys.user_tag, range(self.installation.partitions))
        return sum([await self.redis.zcard(self.keys.leased(tag)) for tag in tags])

    async def push_log(self, user: str) -> list[dict[str, Any]]:
        blob = await self.redis.get(Keys.pushes(self.tag(user), user.encode()))
        return [] if blob is None else list(orjson.loads(blob))

    async def sent(self) -> Sent:
        """All that lies in the two topics."""
        topics = self.installation.topics
        records = await self.installation.read(topics.recommendations)
        return Sent(
            [recommendations.decode(record.value) for record in records],
            [decisions.decode(record.value) for record in await self.installation.read(topics.decisions)],
            records,
        )

    def life(
        self, source: Source | None = None, env: Mapping[str, str] | None = None, *, drain: bool = False
    ) -> Worker:
        """A model worker, not started yet."""
        rankers = source or Source(Popular())

        def make(_: ModelSettings, __: Declaration) -> Source:
            return rankers

        return Worker(self.settings(**(env or {})), make, drain=drain)

    async def drain(self, source: Source | None = None, /, **env: str) -> None:
        """Run a worker until the queue is empty."""
        assert await self.life(source, env, drain=True).run(asyncio.Event()) == 0

    @asynccontextmanager
    async def serving(self, source: Source | None = None, **env: str) -> Any:
        """A worker that runs until the end of the block, and stops well."""
        life, stop = self.life(source, env), asyncio.Event()
        running = asyncio.create_task(life.run(stop))
        try:
            yield life
        finally:
            stop.set()
            code = await running
        assert code == 0


class _Record(NamedTuple):
    key: bytes
    value: bytes


@asynccontextmanager
async def open_shop(kafka: str, redis_url: str, prefix: str, namespace: str, folder: Path) -> Any:
    """A shop of one test; its connection is closed at the end."""
    installation = Installation(kafka, redis_url, prefix, namespace, folder)
    shop = Shop(installation)
    await shop.open()
    try:
        yield shop
    finally:
        await shop.redis.aclose()
        installation.close()


def catalogue(n: int = 5) -> list[Item]:
    """Items with everything a candidate carries."""
    return [
        Item(
            f"i{i}", title=f"标题 {i}", category="c", price=10.0 + i, currency="EUR", url=f"app://i{i}", ts_ms=now_ms()
        )
        for i in range(n)
    ]


def visits(users: Sequence[str], seed: int = 0, **more: Any) -> list[dict[str, Any]]:
    """One click of each user on something that is in nobody's catalogue."""
    random = Random(seed)
    return [{"user_id": user, "item_id": f"x{random.randrange(50)}", **more} for user in users]


async def until(condition: Callable[[], Any], timeout_s: float = 20) -> None:
    """Wait for an awaitable condition to come true."""
    deadline_s = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline_s, f"{condition} did not come true within {timeout_s} s"
        await asyncio.sleep(0.05)
