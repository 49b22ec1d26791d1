"""Topic ids and partition counts from the broker, asked in a newer version than aiokafka speaks by itself."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from io import BytesIO
from typing import Any, ClassVar, NamedTuple

from aiokafka.errors import NodeNotReadyError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

UNKNOWN_TOPIC = 3


class TopicFacts(NamedTuple):
    """A topic's identity: `id` (base64url, as Kafka prints it) changes when the topic is deleted and created again."""

    id: str
    partitions: int


class _Uuid:
    """16 raw bytes on the wire."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)

    @classmethod
    def repr(cls, value: bytes) -> str:
        return value.hex()


_TEXT = CompactString("utf-8")
_BROKER = CompactArray(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), ("tags", TaggedFields))
_PARTITION = CompactArray(
    ("error", Int16),
    ("partition", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", CompactArray(Int32)),
    ("isr", CompactArray(Int32)),
    ("offline", CompactArray(Int32)),
    ("tags", TaggedFields),
)
_TOPIC = CompactArray(
    ("error", Int16),
    ("name", _TEXT),
    ("id", _Uuid),
    ("internal", Boolean),
    ("partitions", _PARTITION),
    ("operations", Int32),
    ("tags", TaggedFields),
)


class MetadataResponseV12(Response):  # type: ignore[misc]  # aiokafka carries no types
    """Metadata response, flexible version 12."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_ms", Int32),
        ("brokers", _BROKER),
        ("cluster_id", _TEXT),
        ("controller", Int32),
        ("topics", _TOPIC),
        ("tags", TaggedFields),
    )


class MetadataRequestV12(RequestStruct):  # type: ignore[misc]  # aiokafka carries no types
    """Metadata request, flexible version 12: topics by name, no automatic creation."""

    FLEXIBLE_VERSION: ClassVar[bool] = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = MetadataResponseV12
    SCHEMA = Schema(
        ("topics", CompactArray(("id", _Uuid), ("name", _TEXT), ("tags", TaggedFields))),
        ("create", Boolean),
        ("operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicFactsRequest(Request[MetadataRequestV12]):  # type: ignore[misc]  # aiokafka carries no types
    """Asks for the topics named."""

    API_KEY = 3

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)

    def build(self, request_struct_class: type[MetadataRequestV12]) -> MetadataRequestV12:
        topics: list[tuple[bytes, str, dict[int, bytes]]] = [(bytes(16), name, {}) for name in self.names]
        return request_struct_class(topics, False, False, {})


async def topic_facts(client: Any, names: Iterable[str]) -> dict[str, TopicFacts]:
    """Ask any broker over `client` (an AIOKafkaClient); a topic that does not exist is absent from the answer.

    Raises the Kafka error of a topic that exists but cannot be described (authorisation, leader election).
    """
    node = client.get_random_node()
    if node is None:
        message = "No Kafka broker is known yet."
        raise NodeNotReadyError(message)
    response = await client.send(node, TopicFactsRequest(names))
    found = {}
    for error, name, raw_id, _internal, partitions, _operations, _tags in response.topics:
        if error == UNKNOWN_TOPIC:
            continue
        if error:
            raise for_code(error)(name)
        found[name] = TopicFacts(base64.urlsafe_b64encode(raw_id).decode().rstrip("="), len(partitions))
    return found
