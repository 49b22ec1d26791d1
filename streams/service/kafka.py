"""Options of every aiokafka client from the settings: addresses, TLS and SASL."""

import asyncio
import ssl
import time
from collections import deque
from typing import Any

from streams.service.settings import Connections
from streams.service.tls import tls_context

SILENT_S = 10.0  # longer than any fetch may wait; a group that rebalances may take as long

METADATA_MAX_AGE_MS = 30_000  # a new or re-created topic is seen within this time, not in five minutes


def client_options(connections: Connections) -> dict[str, Any]:
    """Keyword arguments that consumers, producers and the admin client of aiokafka share."""
    options: dict[str, Any] = {
        "bootstrap_servers": [part.strip() for part in connections.kafka.split(",")],
        "security_protocol": connections.kafka_security,
        "ssl_context": ssl_context(connections),
        "metadata_max_age_ms": METADATA_MAX_AGE_MS,
    }
    if connections.kafka_security.startswith("SASL"):
        options |= {
            "sasl_mechanism": connections.kafka_mechanism,
            "sasl_plain_username": connections.kafka_username,
            "sasl_plain_password": connections.kafka_password,
        }
    return options


def producer_options(connections: Connections) -> dict[str, Any]:
    """Keyword arguments of a producer whose sends are neither lost nor doubled by its own retries."""
    return {**client_options(connections), "acks": "all", "enable_idempotence": True}


def calm(client: Any, most: int = 10, within_s: float = 1.0) -> None:
    """Keep an `aiokafka.client.AIOKafkaClient` from asking for metadata more often than `most` times `within_s`.

    A producer that holds records for a partition without a leader asks again as soon as it was answered, or could not
    even connect: thousands of times a second, from every process, at brokers that are about to start.
    """
    asked_s: deque[float] = deque(maxlen=most)
    ask = client._metadata_update

    async def ask_calmly(*args: Any) -> Any:
        if len(asked_s) == most and (early_s := asked_s[0] + within_s - time.monotonic()) > 0:
            await asyncio.sleep(early_s)
        asked_s.append(time.monotonic())
        return await ask(*args)

    client._metadata_update = ask_calmly


def silence(client: Any) -> str:
    """A sentence when Kafka is not heard by an `aiokafka.client.AIOKafkaClient`, else empty."""
    connections = [connection for connection in client._conns.values() if connection.connected()]
    if not connections:
        return "No connection to Kafka is up; trying again until one is."
    waiting = [time.monotonic() - connection._last_action for connection in connections if connection._requests]
    if waiting and max(waiting) > SILENT_S:
        return f"Kafka has not answered a request for {max(waiting):.0f} s."
    return ""


def ssl_context(connections: Connections) -> ssl.SSLContext | None:
    """The TLS context of the brokers, None where the protocol has no TLS."""
    if not connections.kafka_security.endswith("SSL"):
        return None
    return tls_context(connections.kafka_ca, connections.kafka_cert, connections.kafka_key)
