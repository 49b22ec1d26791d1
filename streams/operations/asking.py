"""What verbs that only look have in common: the namespace in force, and sentences where nobody answers."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

from aiokafka.errors import KafkaError

from streams.service.addresses import redis_address
from streams.service.namespaces import in_force
from streams.service.redis import Client
from streams.service.settings import Connections
from streams.service.trouble import TROUBLE
from streams.service.verb import BAD, Telling
from streams.tables.errors import TableError

ANSWER_WITHIN_S = 60.0


def named(connections: Connections, namespace: str) -> Connections:
    """The same connections to another namespace."""
    return dataclasses.replace(connections, namespace=namespace)


async def live(client: Client, connections: Connections) -> Connections:
    """The connections of the namespace that stream workers fold into now."""
    return named(connections, (await in_force(client, connections.namespace)).live)


async def serving(client: Client, connections: Connections) -> Connections:
    """The connections of the namespace that model workers read now."""
    return named(connections, (await in_force(client, connections.namespace)).serving)


async def answered(
    tell: Telling, connections: Connections, look: Callable[[], Awaitable[int]], within_s: float = ANSWER_WITHIN_S
) -> int:
    """What `look` returns, or 1 after saying which server does not answer."""
    try:
        async with asyncio.timeout(within_s):
            return await look()
    except TableError as refusal:
        tell.complain(str(refusal))
    except KafkaError as error:
        tell.complain(kafka_silent(connections, error))
    except TROUBLE as error:
        tell.complain(redis_silent(connections, error))
    return BAD


def kafka_silent(connections: Connections, error: BaseException) -> str:
    """A sentence about a Kafka that does not answer."""
    reason = (str(error) or type(error).__name__).rstrip(".")
    return f"Kafka at {connections.kafka} does not answer: {reason}. Set KAIROS_KAFKA to where it is."


def redis_silent(connections: Connections, error: BaseException) -> str:
    """A sentence about a Redis that does not answer."""
    reason = (str(error) or type(error).__name__).rstrip(".")
    where = redis_address(connections.redis)
    return f"Redis at {where} does not answer: {reason}. Set KAIROS_REDIS to where it is."


def not_there(connections: Connections, names: list[str]) -> str:
    """A sentence about topics that Kafka does not have."""
    return (
        f"Not in Kafka at {connections.kafka}: {', '.join(names)}. Run `kairos topics create`, or set "
        "KAIROS_TOPIC_PREFIX and KAIROS_KAFKA to where the topics are."
    )


def not_initialised(connections: Connections) -> str:
    """A sentence about tables that this Redis does not have."""
    return (
        f"Namespace {connections.namespace} is not initialised in Redis at {redis_address(connections.redis)}: check "
        "KAIROS_REDIS and KAIROS_NAMESPACE, or run `kairos topics create`."
    )
