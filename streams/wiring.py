"""Builds the worker's parts from its settings: tables, pipelines, sinks and the sides that run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from schemas.keys import Keys
from streams import metrics
from streams.app import Side
from streams.breaker import Breaker, Notes
from streams.burial import Burial
from streams.features.calendar import Calendar
from streams.features.columns import Encoder
from streams.item_pipeline import ItemPipeline
from streams.opened import Tables
from streams.pipeline import Limits, Pipeline
from streams.service.clock import Clock
from streams.service.outbox import Outbox
from streams.settings import StreamSettings
from streams.sinks import DeadLetterSink, DeltaSink
from streams.tables.items import ItemTable
from streams.tables.users import UserTable
from streams.topic_plan import LARGEST_RECORD_BYTES

USERS, ITEMS = "users", "items"
SIDES = (USERS, ITEMS)


class Wiring:
    """The parts of one worker; nothing is connected yet. Make it inside the event loop.

    `wanted` names the sides to run: users, items or both in one process. `installation`: what the namespace of the
    settings belongs to, by default itself.
    """

    def __init__(self, settings: StreamSettings, wanted: tuple[str, ...], *, installation: str = "") -> None:
        self.settings, self.wanted = settings, wanted
        self.installation = installation or settings.connections.namespace
        self.topics = settings.connections.topics
        self.tables = Tables(settings, cache_bytes=settings.cache_mib << 20)
        self.outbox = Outbox(settings.connections, largest_record_bytes=LARGEST_RECORD_BYTES)
        self.registry = metrics.registry()
        self.words: dict[str, metrics.Words] = {}
        self._encoder = Encoder(self.tables.declaration, Calendar(settings.zone))
        self._pipeline: Pipeline | None = None
        self.clock = Clock()
        self._letters = DeadLetterSink(self.outbox, self.topics.dead_letters, self.clock)
        self.breakers: list[Breaker] = []
        self.registry.register(metrics.LetterShares(self.breakers))
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

    def tripped(self) -> dict[str, str]:
        """What a breaker has stopped, each with its sentence."""
        return {name: text for breaker in self.breakers for name, text in breaker.open.items()}

    def _breaker(self, table: Notes) -> Breaker:
        made = Breaker(table, records=self.settings.breaker_records, share=self.settings.breaker_share)
        self.breakers.append(made)
        return made

    def _burial(self, table: UserTable | ItemTable, tag: Callable[[Keys, int], bytes]) -> Burial:
        namespace = self.settings.connections.namespace
        return Burial(self._letters, self.tables.client, namespace, self.installation, tag, table.weather)

    def _users(self) -> Side:
        settings, table = self.settings, self.tables.users
        burial = self._burial(table, Keys.user_tag)
        pipeline = Pipeline(
            table,
            self._encoder,
            self.topics,
            burial,
            DeltaSink(self.outbox, self.topics.deltas),
            now_ms=self.clock,
            limits=Limits(settings.max_skew_s * 1000, settings.horizon_days * 86_400_000, settings.max_value_bytes),
        )
        pipeline.breaker = self._breaker(table)
        self._pipeline = pipeline
        pipeline.stats.on_chunk = self._chunks.labels(USERS).observe
        table.stats.on_script = self._scripts.labels(USERS).observe
        self.words |= {
            "kairos_dead_letters": metrics.Words("Records buried, by reason.", "reason", lambda: burial.sent),
            "kairos_results": metrics.Words("Records left out or converted.", "result", lambda: pipeline.stats.results),
            "kairos_late": metrics.Words("Late events, by outcome.", "outcome", lambda: table.late),
        }
        waits = {"fetch_wait_ms": settings.fetch_wait_ms, "fetch_min_bytes": settings.fetch_min_bytes}
        side = Side(USERS, self.topics.user_inputs, table, pipeline, settings, **waits)
        side.burial = burial
        return side

    def _items(self) -> Side:
        settings, table = self.settings, self.tables.items
        burial = self._burial(table, Keys.item_tag)
        pipeline = ItemPipeline(table, self.topics, burial, max_value_bytes=settings.max_value_bytes)
        pipeline.breaker = self._breaker(table)
        pipeline.stats.on_chunk = self._chunks.labels(ITEMS).observe
        table.stats.on_script = self._scripts.labels(ITEMS).observe
        stats = pipeline.stats
        self.words |= {
            "kairos_item_dead_letters": metrics.Words("Item records buried, by reason.", "reason", lambda: burial.sent),
            "kairos_catalogue_records": metrics.Words("Catalogue records.", "result", lambda: stats.catalogue),
            "kairos_deltas": metrics.Words("Item deltas by outcome.", "outcome", lambda: table.deltas),
        }
        waits = {"fetch_wait_ms": settings.item_fetch_wait_ms, "fetch_min_bytes": settings.item_fetch_min_bytes}
        side = Side(ITEMS, self.topics.item_inputs, table, pipeline, settings, **waits)
        side.burial = burial
        return side
