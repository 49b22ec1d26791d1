"""Options of every aiokafka client from the settings: addresses, TLS and SASL."""

import ssl
from typing import Any

from streams.service.settings import Connections

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


def ssl_context(connections: Connections) -> ssl.SSLContext | None:
    """The TLS context of the brokers, None where the protocol has no TLS."""
    if not connections.kafka_security.endswith("SSL"):
        return None
    context = ssl.create_default_context(cafile=connections.kafka_ca)
    if connections.kafka_cert is not None:
        context.load_cert_chain(connections.kafka_cert, connections.kafka_key)
    return context
