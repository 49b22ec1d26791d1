"""Where anything about one user may lie: the namespaces of an installation, and the topics that keep records."""

from __future__ import annotations

from typing import NamedTuple

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.keys import Keys
from schemas.topics import Topics
from streams.admin import administering, describe
from streams.service.addresses import redis_address
from streams.service.entry import NoEntryError, entering
from streams.service.kafka import client_options
from streams.service.namespaces import in_force, runs
from streams.service.redis import Client
from streams.service.settings import Connections
from streams.service.trouble import clause, passes, remedy
from streams.tables.look import partitions_of

RETENTION = "retention.ms"


class Place(NamedTuple):
    """A namespace of the installation, what it is in force for, its partitions; None where it is not initialised."""

    name: str
    parts: tuple[str, ...]
    partitions: int | None

    @property
    def keys(self) -> Keys:
        return Keys(self.name)


class Kept(NamedTuple):
    """A topic that holds records of users; `retention_ms` None: for ever."""

    topic: str
    holds: str
    partitions: int
    retention_ms: int | None


async def places(client: Client, installation: str) -> list[Place]:
    """Every namespace in which rows of the installation are or were built, the live one first."""
    force, known = await in_force(client, installation), await runs(client, installation)
    parts: dict[str, list[str]] = {force.live: ["live"]}
    words = [(force.serving, "serving"), (force.previous, "previous"), (force.target, "next")]
    words += [(log, "pushes") for log in force.logs] + [(run, "run") for run in known]
    for name, part in words:
        if name:
            parts.setdefault(name, []).append(part)
    # The rows that an installation began with lie under its own name, and may be in force for nothing any more.
    parts.setdefault(installation, [])
    counts = {name: await partitions_of(client, Keys(name).user_tag(0)) for name in parts}
    return [Place(name, tuple(found), counts[name]) for name, found in parts.items()]


def topics_of(topics: Topics, shadows: list[str]) -> dict[str, str]:
    """What each topic with records of users holds; `shadows` are runs whose candidates go to topics of their own."""
    shadowed = {
        f"{topics.prefix}{word}.shadow.{run}.v1": holds
        for run in shadows
        for word, holds in (("recommendations", "candidates"), ("decisions", "decisions"))
    }
    return {
        **dict.fromkeys(topics.user_inputs, "events"),
        topics.recommendations: "candidates",
        topics.decisions: "decisions",
        topics.dead_letters: "dead letters",
        **shadowed,
    }


async def shadows(client: Client, installation: str) -> list[str]:
    """The runs that are scored in shadow."""
    return [run for run, about in (await runs(client, installation)).items() if about.get("mode") == "shadow"]


async def kept(connections: Connections, holds: dict[str, str]) -> list[Kept]:
    """The topics among these that exist; raises KafkaError or OSError when Kafka does not answer."""
    async with entering(connections), administering(client_options(connections)) as admin:
        known = await describe(admin, list(holds))
        resources = [ConfigResource(ConfigResourceType.TOPIC, name, {RETENTION: ""}) for name in known]
        found: dict[str, int | None] = {}
        for response in await admin.describe_configs(resources) if resources else []:
            for _code, _reason, _kind, name, entries, *_ in response.resources:
                words = dict(entry[:2] for entry in entries)
                found[name] = int(words[RETENTION]) if RETENTION in words else None
    return [
        Kept(name, what, known[name].partitions, None if (found.get(name) or -1) < 0 else found[name])
        for name, what in holds.items()
        if name in known
    ]


def not_initialised(installation: str) -> str:
    """A sentence about tables that are not there."""
    return (
        f"Namespace {installation} is not initialised in this Redis: check KAIROS_REDIS and KAIROS_NAMESPACE, or run "
        "`kairos topics create`."
    )


def redis_trouble(connections: Connections, error: BaseException) -> str:
    """A sentence about a Redis that does not answer, or refuses."""
    where = redis_address(connections.redis)
    if not passes(error):
        return f"{where} refuses: {clause(error)}. {remedy(error)}"
    return f"{where} does not answer ({clause(error)}): start it, or set KAIROS_REDIS to where it is."


def kafka_trouble(connections: Connections, error: BaseException) -> str:
    """A sentence about a Kafka that does not answer, or lets nobody in."""
    if isinstance(error, NoEntryError):
        return str(error)
    return f"Kafka at {connections.kafka} does not answer ({clause(error)}): set KAIROS_KAFKA to where it is."
