"""The local stack: real Kafka and real Valkey as child processes, without Docker, root or a system Java."""

from deploy.stack.broker import Broker
from deploy.stack.brokers import KafkaCluster
from deploy.stack.cluster import ValkeyCluster
from deploy.stack.errors import PortTaken, StackError
from deploy.stack.local import LocalStack
from deploy.stack.sentinel import ValkeySentinel
from deploy.stack.valkey import Valkey

__all__ = [
    "Broker",
    "KafkaCluster",
    "LocalStack",
    "PortTaken",
    "StackError",
    "Valkey",
    "ValkeyCluster",
    "ValkeySentinel",
]
