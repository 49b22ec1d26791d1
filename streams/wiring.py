"""Builds the worker's parts from its settings: tables, pipelines, sinks and the sides that run them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from schemas.topics import Topics
from streams import metrics
from streams.app import Side
from streams.features.calendar import Calendar
from streams.features.columns import Encoder
from streams.features.declaration import DEFAULT, Declaration
from streams.features.features_file import load
from streams.features.items import ItemLayout
from streams.features.rows import Layout
from streams.item_pipeline import ItemPipeline
from streams.pipeline import Limits, Pipeline
from streams.service.clock import Clock
from streams.service.outbox import Outbox
from streams.service.redis import Client, connect
from streams.settings import StreamSettings, Tools
from streams.sinks import DeadLetterSink, DeltaSink
from streams.tables.items import ItemTable
from streams.tables.redis_store import RedisStore
from streams.tables.users import UserTable
from streams.topic_plan import LARGEST_RECORD_BYTES

USERS, ITEMS = "users", "items"
SIDES = (USERS, ITEMS)


def declared(tools: Tools) -> Declaration:
    """The declaration of features that the settings name."""
    return load(tools.features.file) if tools.features.file else DEFAULT


class Tables:
    """The tables of an installation in its Redis, and the client they share. `cache_bytes` is for rows of users."""

    def __init__(self, tools: Tools, *, cache_bytes: int = 1 << 20, client: Client | None = None) -> None:
        self.declaration = declared(tools)
        self.client: Client = client or connect(tools.connections)
        store, keys, writer = RedisStore(self.client), tools.connections.keys, secrets.token_hex(6)
        self.users = UserTable(store, keys, Layout(self.declaration), writer=writer, cache_bytes=cache_bytes)
        self.items = ItemTable(store, keys, ItemLayout(self.declaration), writer=writer, cache_bytes=cache_bytes)

    def of_topics(self, topics: Topics) -> dict[str, UserTable | ItemTable]:
        """The table that each input topic is folded into."""
        return {**dict.fromkeys(topics.user_inputs, self.users), **dict.fromkeys(topics.item_inputs, self.items)}

    async def time(self) -> tuple[int, int]:
        """Seconds and microseconds since 1970 as the server has them."""
        seconds, microseconds = await self.client.time()
        return seconds, microseconds

    async def close(self) -> None:
        """Close the connections, and let go of all rows."""
        self.users.release_all()
        self.items.release_all()
        await self.client.aclose()


class Wiring:
    """The parts of one worker; nothing is connected yet. Make it inside the event loop.

    `wanted` names the sides to run: users, items or both in one process.
    """

    def __init__(self, settings: StreamSettings, wanted: tuple[str, ...]) -> None:
        self.settings, self.wanted = settings, wanted
        self.topics = settings.connections.topics
        self.tables = Tables(settings.tools, cache_bytes=settings.cache_mib << 20)
        self.outbox = Outbox(settings.connections, largest_record_bytes=LARGEST_RECORD_BYTES)
        self.registry = metrics.registry()
        self.words: dict[str, metrics.Words] = {}
        # Loading the tables behind the calendar takes a second: before the group counts on this worker.
        self._encoder = Encoder(self.tables.declaration, Calendar(settings.tools.features.zone))
        self._pipeline: Pipeline | None = None
        self.clock = Clock()
        self._letters = DeadLetterSink(self.outbox, self.topics.dead_letters, self.clock)
        self._chunks = metrics.chunk_histogram(self.registry)
        self._scripts = metrics.script_histogram(self.registry)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The topics read here."""
        users = self.topics.user_inputs if USERS in self.wanted else ()
        return (*users, *self.topics.item_inputs) if ITEMS in self.wanted else users

    def sides(self) -> list[Side]:
        """The sides wanted, made but not started; `route` comes before their start."""
        made = {USERS: self._users, ITEMS: self._items}
        return [make() for name, make in made.items() if name in self.wanted]

    def route(self, partitions: Mapping[str, int]) -> None:
        """Tell the sides the counts of all topics, as Kafka has them."""
        if self._pipeline is not None:
            self._pipeline.route(partitions[self.topics.deltas])

    def _users(self) -> Side:
        settings, table = self.settings, self.tables.users
        pipeline = Pipeline(
            table,
            self._encoder,
            self.topics,
            self._letters,
            DeltaSink(self.outbox, self.topics.deltas),
            now_ms=self.clock,
            limits=Limits(settings.max_skew_s * 1000, settings.horizon_days * 86_400_000, settings.max_value_bytes),
        )
        self._pipeline = pipeline
        pipeline.stats.on_chunk = self._chunks.labels(USERS).observe
        table.stats.on_script = self._scripts.labels(USERS).observe
        self.words |= {
            "kairos_dead_letters": metrics.Words(
                "Records buried, by reason.", "reason", lambda: pipeline.stats.rejects
            ),
            "kairos_results": metrics.Words("Records left out or converted.", "result", lambda: pipeline.stats.results),
            "kairos_late": metrics.Words("Late events, by outcome.", "outcome", lambda: table.late),
        }
        waits = {"fetch_wait_ms": settings.fetch_wait_ms, "fetch_min_bytes": settings.fetch_min_bytes}
        return Side(USERS, self.topics.user_inputs, table, pipeline, settings, **waits)

    def _items(self) -> Side:
        settings, table = self.settings, self.tables.items
        pipeline = ItemPipeline(table, self.topics, self._letters, max_value_bytes=settings.max_value_bytes)
        pipeline.stats.on_chunk = self._chunks.labels(ITEMS).observe
        table.stats.on_script = self._scripts.labels(ITEMS).observe
        stats = pipeline.stats
        self.words |= {
            "kairos_item_dead_letters": metrics.Words(
                "Item records buried, by reason.", "reason", lambda: stats.rejects
            ),
            "kairos_catalogue_records": metrics.Words("Catalogue records.", "result", lambda: stats.catalogue),
            "kairos_deltas": metrics.Words("Item deltas by outcome.", "outcome", lambda: table.deltas),
        }
        waits = {"fetch_wait_ms": settings.item_fetch_wait_ms, "fetch_min_bytes": settings.item_fetch_min_bytes}
        return Side(ITEMS, self.topics.item_inputs, table, pipeline, settings, **waits)
