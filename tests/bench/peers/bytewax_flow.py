"""The reference work in Bytewax: stateful_map with SQLite recovery; arguments: host:port, topic, recovery folder."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op  # type: ignore[import-not-found]
import msgspec
from bytewax.connectors.kafka import KafkaSource  # type: ignore[import-not-found]
from bytewax.dataflow import Dataflow  # type: ignore[import-not-found]
from bytewax.outputs import DynamicSink, StatelessSinkPartition  # type: ignore[import-not-found]
from bytewax.recovery import RecoveryConfig, init_db_dir  # type: ignore[import-not-found]
from bytewax.run import cli_main  # type: ignore[import-not-found]

from tests.bench.reference import APPLIED, ROW_BYTES, fold

EPOCH = timedelta(seconds=5)
decode = msgspec.json.decode


class _Nowhere(StatelessSinkPartition):  # type: ignore[misc]
    def write_batch(self, items: list[Any]) -> None:
        """Drop what arrives: the rows are the state."""


class NullSink(DynamicSink):  # type: ignore[misc]
    """Where the (empty) output of the fold goes."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition:
        """One partition a worker."""
        return _Nowhere()


def keyed(message: Any) -> tuple[str, dict[str, Any]]:
    """The user and the decoded event of a Kafka message."""
    return message.key.decode(), decode(message.value)


def step(row: bytearray | None, event: dict[str, Any]) -> tuple[bytearray, None]:
    """Fold one event into a user's row."""
    row = row or bytearray(ROW_BYTES)
    fold(row, event)
    return row, None


def flow(kafka: str, topic: str) -> Dataflow:
    """The data flow, which ends at the end of the topic."""
    made = Dataflow("reference")
    events = op.input("events", made, KafkaSource([kafka], [topic], tail=False, batch_size=1_000))
    rows = op.stateful_map("rows", op.map("decode", events, keyed), step)
    op.output("nowhere", rows, NullSink())
    return made


if __name__ == "__main__":
    recovery = Path(sys.argv[3])
    recovery.mkdir()
    init_db_dir(recovery, 1)
    cli_main(flow(sys.argv[1], sys.argv[2]), epoch_interval=EPOCH, recovery_config=RecoveryConfig(str(recovery)))
    print(APPLIED, flush=True)
    sys.stdin.read()
