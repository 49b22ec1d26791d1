"""The reference work in Quix: State on RocksDB with a changelog; arguments: host:port, topic, events, folder, group."""

import sys
from typing import Any

import msgspec
from quixstreams import Application  # type: ignore[import-not-found]

from tests.bench.reference import APPLIED, ROW_BYTES, fold

decode = msgspec.json.decode


def step(value: bytes, state: Any) -> None:
    """Fold one event into the row of the message's key."""
    row = bytearray(state.get_bytes("row") or bytes(ROW_BYTES))
    fold(row, decode(value))
    state.set_bytes("row", bytes(row))


def run(kafka: str, topic: str, events: int, folder: str, group: str) -> None:
    """Work until so many events are applied and check-pointed."""
    app = Application(
        broker_address=kafka, consumer_group=group, auto_offset_reset="earliest", state_dir=folder, loglevel="ERROR"
    )
    frame = app.dataframe(app.topic(topic, key_deserializer="bytes", value_deserializer="bytes"))
    frame.update(step, stateful=True)
    app.run(count=events, collect=False)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5])
    print(APPLIED, flush=True)
    sys.stdin.read()
