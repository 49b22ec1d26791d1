"""What most people write: a stock Faust agent with an awaited GET and SET of one Redis row for every event.

Settings by environment: BENCH_KAFKA, BENCH_REDIS, BENCH_TOPIC, BENCH_EVENTS (how many make the whole),
BENCH_KEYS, BENCH_FOLDER (for what Faust writes).
"""

import os
import sys
from typing import Any, cast

import faust
from redis.asyncio import Redis

from tests.bench.reference import APPLIED, ROW_BYTES, fold

EVENTS = int(os.environ["BENCH_EVENTS"])
KEYS = os.environ["BENCH_KEYS"]

app = faust.App(
    f"stock-{KEYS}",
    broker=f"kafka://{os.environ['BENCH_KAFKA']}",
    consumer_auto_offset_reset="earliest",
    topic_disable_leader=True,
    web_enabled=False,
    datadir=os.environ["BENCH_FOLDER"],
)
source = app.topic(os.environ["BENCH_TOPIC"], key_type=bytes, key_serializer="raw", value_serializer="json")
client = Redis.from_url(os.environ["BENCH_REDIS"])


@app.agent(source)
async def rows(stream: faust.StreamT[Any]) -> None:
    """Fold each event into its user's row in Redis."""
    done = 0
    async for event in stream:
        key = f"{KEYS}:{event['user_id']}"
        row = bytearray(cast("bytes | None", await client.get(key)) or bytes(ROW_BYTES))
        fold(row, event)
        await client.set(key, bytes(row))
        done += 1
        if done == EVENTS:
            print(APPLIED, done, file=sys.__stdout__, flush=True)  # Faust turns sys.stdout into a log


if __name__ == "__main__":
    app.main()
