"""Builds the worker's parts from its settings: tables, pipelines, sinks and the sides that run them."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from schemas.topics import Topics
from streams import metrics
from streams.app import Side
from streams.features.calendar import Calendar
from streams.features.columns import Encoder
from streams.features.declaration import DEFAULT, Declaration, load
from streams.features.rows import Layout
from streams.pipeline import Limits, Pipeline
from streams.service.kafka import client_options
from streams.service.redis import Client, connect
from streams.settings import StreamSettings, Tools
from streams.sinks import DeadLetterSink, Outbox
from streams.tables.redis_store import RedisStore
from streams.tables.users import UserTable

USERS, ITEMS = "users", "items"


def now_ms() -> int:
    """The wall clock in ms."""
    return time.time_ns() // 1_000_000


class Tables:
    """The tables of an installation in its Redis, and the client they share."""

    def __init__(self, tools: Tools, *, cache_bytes: int = 1 << 20) -> None:
        self.declaration: Declaration = load(tools.features) if tools.features else DEFAULT
        self.client: Client = connect(tools.connections)
        store, keys, writer = RedisStore(self.client), tools.connections.keys, secrets.token_hex(6)
        self.layout = Layout(self.declaration)
        self.users = UserTable(store, keys, self.layout, writer=writer, cache_bytes=cache_bytes)

    def of_topics(self, topics: Topics) -> dict[str, UserTable]:
        """The table that each input topic is folded into."""
        return dict.fromkeys(topics.user_inputs, self.users)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()


@dataclass
class Parts:
    """What a worker is made of."""

    settings: StreamSettings
    tables: Tables
    outbox: Outbox
    registry: CollectorRegistry
    sides: list[Side] = field(default_factory=list)
    words: dict[str, metrics.Words] = field(default_factory=dict)


def build(settings: StreamSettings, only: str | None) -> Parts:
    """All parts of a worker, nothing connected yet; `only` names the one side wanted. Call it inside the event loop."""
    tables = Tables(settings.tools, cache_bytes=settings.cache_mib << 20)
    parts = Parts(settings, tables, Outbox(client_options(settings.connections)), metrics.registry())
    records, scripts = metrics.chunk_histogram(parts.registry), metrics.script_histogram(parts.registry)
    if only in (None, USERS):
        side, pipeline = _users(parts)
        pipeline.stats.on_chunk = records.labels(USERS).observe
        tables.users.stats.on_script = scripts.labels(USERS).observe
        parts.sides.append(side)
    return parts


def _users(parts: Parts) -> tuple[Side, Pipeline]:
    settings, topics, table = parts.settings, parts.settings.connections.topics, parts.tables.users
    encoder = Encoder(parts.tables.declaration, Calendar(settings.tools.zone))
    limits = Limits(settings.max_skew_s * 1000, settings.horizon_days * 86_400_000, settings.max_value_bytes)
    letters = DeadLetterSink(parts.outbox, topics.dead_letters, now_ms)
    pipeline = Pipeline(table, encoder, topics, letters, now_ms=now_ms, limits=limits)
    parts.words |= {
        "kairos_dead_letters": metrics.Words("Records buried, by reason.", "reason", lambda: pipeline.stats.rejects),
        "kairos_results": metrics.Words("Records left out or converted.", "result", lambda: pipeline.stats.results),
        "kairos_late": metrics.Words("Late events, by outcome.", "outcome", lambda: table.late),
    }
    side = Side(
        USERS,
        topics.user_inputs,
        table,
        pipeline,
        settings,
        fetch_wait_ms=settings.fetch_wait_ms,
        fetch_min_bytes=settings.fetch_min_bytes,
    )
    return side, pipeline
