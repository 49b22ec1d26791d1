"""Everything that is kept of one user, as one document: rows of all namespaces, and records in Kafka.

What cannot be reached is named in `not_reached`, by its section: a document that is not whole says so.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from operator import itemgetter
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas import dead_letters
from schemas.events import CONFLUENT_PREFIX_BYTES
from schemas.partition import partition_of
from streams.admin import reading
from streams.features.blobs import UnreadableError
from streams.inspect import facts, item_codes, pending
from streams.opened import Tables
from streams.operations.erasing import find
from streams.operations.people import (
    Kept,
    Place,
    kafka_trouble,
    kept,
    not_initialised,
    redis_trouble,
    shadows,
    topics_of,
)
from streams.service.clock import Clock
from streams.service.kafka import client_options
from streams.service.trouble import TROUBLE
from streams.service.verb import Telling
from streams.settings import ReadSettings
from streams.tables.look import Looked, item_names, partitions_of

SECTIONS = {"events": "events", "candidates": "candidates", "decisions": "decisions", "dead letters": "dead_letters"}
"""The part of the document by what a topic holds."""
TOLD_BESIDE = frozenset({"user_id", "partition", "rescore", "pushes"})
WAIT_MS, SILENT_ROUNDS = 1000, 30


class Collector:
    """Collects the document of one user."""

    def __init__(self, settings: ReadSettings, tables: Tables, tell: Telling, user: str) -> None:
        self.settings, self.tables, self.tell, self.user = settings, tables, tell, user
        self.connections = settings.connections
        self.not_reached: dict[str, str] = {}

    async def collect(self) -> dict[str, Any]:
        """The document."""
        now_ms = Clock()()
        holds = topics_of(self.connections.topics, [])
        namespaces: list[dict[str, Any]] = []
        try:
            holds = topics_of(self.connections.topics, await shadows(self.tables.client, self.connections.namespace))
            found = await find(self.tables.client, self.connections.namespace, self.user)
            for place, looked in found:
                if looked is not None:
                    namespaces.append(await self._namespace(place, looked, now_ms))
            if not namespaces:
                self.not_reached["namespaces"] = not_initialised(self.connections.namespace)
        except TROUBLE as error:
            self.not_reached["namespaces"] = redis_trouble(self.connections, error)
        return {
            "user_id": self.user,
            "installation": self.connections.namespace,
            "exported_ms": now_ms,
            "namespaces": namespaces,
            **await self._records(holds),
            "not_reached": self.not_reached,
        }

    async def _namespace(self, place: Place, looked: Looked, now_ms: int) -> dict[str, Any]:
        """What one namespace keeps; the row as `kairos inspect --json` tells it."""
        row = None
        if looked.row is not None:
            try:
                row = await self._row(place, looked, looked.row, now_ms)
            except UnreadableError as error:
                self.not_reached[f"row in {place.name}"] = f"In namespace {place.name} {error}"
        return {
            "namespace": place.name,
            "in_force": place.parts,
            "partition": looked.partition,
            "erased_ms": looked.erased_ms,
            "row": row,
            "rescore": pending(looked),
            "pushes": looked.pushes,
            "shadow_pushes": [*looked.shadow_pushes],
        }

    async def _row(self, place: Place, looked: Looked, blob: bytes, now_ms: int) -> dict[str, Any]:
        layout, client = self.tables.users.layout, self.tables.client
        partitions = await partitions_of(client, place.keys.item_tag(0)) or 0
        names = await item_names(client, place.keys, partitions, item_codes(layout, blob))
        known = facts(layout, self.user, looked, names, now_ms)
        return {name: value for name, value in known.items() if name not in TOLD_BESIDE}

    async def _records(self, holds: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
        """The user's own records of each section, as far as their topics still hold them."""
        records: dict[str, list[dict[str, Any]]] = {section: [] for section in SECTIONS.values()}
        try:
            topics = {topic.topic: topic for topic in await kept(self.connections, holds)}
            options = {"auto_offset_reset": "earliest", "isolation_level": self.settings.isolation}
            if topics:
                async with reading(client_options(self.connections), **options) as consumer:
                    async for record in self._mine(consumer, topics):
                        what = topics[record.topic].holds
                        records[SECTIONS[what]].append(_record(record, dead=what == "dead letters"))
        except (KafkaError, OSError) as error:
            why = kafka_trouble(self.connections, error)
            self.not_reached |= dict.fromkeys(SECTIONS.values(), why)
            return records
        for name, what in holds.items():
            if name not in topics:
                self.not_reached[SECTIONS[what]] = f"Topic {name} is not in Kafka at {self.connections.kafka}."
        return {section: sorted(some, key=itemgetter("timestamp_ms")) for section, some in records.items()}

    async def _mine(self, consumer: AIOKafkaConsumer, topics: Mapping[str, Kept]) -> AsyncIterator[Any]:
        """Records with the user's key, from the one partition of each topic in which they lie, up to its present end.

        Raises OSError where none comes any more.
        """
        key = self.user.encode()
        places = [TopicPartition(topic.topic, partition_of(key, topic.partitions)) for topic in topics.values()]
        starts, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        at = {place: starts[place] for place in places if starts[place] < ends[place]}
        # Once for all: aiokafka may never stop after a second assignment.
        if at:
            consumer.assign(list(at))
        for place, first in at.items():
            consumer.seek(place, first)
        total, silent = sum(ends[place] - starts[place] for place in at), 0
        with self.tell.progress("Reading the user's partitions", total) as bar:
            while left := [place for place in at if at[place] < ends[place]]:
                before = dict(at)
                for place, records in (await consumer.getmany(*left, timeout_ms=WAIT_MS)).items():
                    for record in records:
                        if record.key == key and record.offset < ends[place]:
                            yield record
                # By position: aborted records leave a tail that holds nothing.
                at |= {place: await consumer.position(place) for place in left}
                bar.at(sum(min(at[place], ends[place]) - starts[place] for place in at))
                silent = silent + 1 if at == before else 0
                if silent == SILENT_ROUNDS:
                    message = f"nothing came of {', '.join(f'{p.topic}:{p.partition}' for p in left)}"
                    raise OSError(message)


def _record(record: Any, *, dead: bool) -> dict[str, Any]:
    """A record for a document: its value parsed where it is JSON, else as base64."""
    said: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
    }
    if dead:
        said |= _failed(record)
    value: bytes = record.value or b""
    try:
        return said | {"value": orjson.loads(value[CONFLUENT_PREFIX_BYTES:] if value[:1] == b"\0" else value)}
    except orjson.JSONDecodeError:
        return said | {"value_base64": base64.b64encode(value).decode()}


def _failed(record: Any) -> dict[str, Any]:
    """Where a dead letter came from and what was wrong with it; nothing where another producer wrote it."""
    try:
        letter = dead_letters.decode(record.key, record.value, record.headers)
    except ValueError:
        return {}
    came_from = {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset}
    return {"reason": letter.reason, "detail": letter.detail, "attempt": letter.attempt, "came_from": came_from}
