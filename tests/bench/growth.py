"""How the cost of an event grows with users and with partitions: second halves of logs, when caches are warm."""

import itertools

import numpy as np
import redis

from deploy.stack import Valkey
from schemas.keys import Keys
from schemas.partition import partitions_of
from streams.features.features_file import load
from streams.features.rows import Layout
from tests.bench.figures import AT_MOST, Figure, figure
from tests.bench.installation import REFERENCE, Installation
from tests.bench.lab import Lab, catch_up_tail, fill
from tests.bench.traffic import START_MS, reference

EVENTS = 300_000
FEW_USERS, MANY_USERS = 20_000, 2_000_000
FEW_PARTITIONS, MANY_PARTITIONS = 4, 64
AT_ONCE = 2_000


def growth_figures(lab: Lab) -> list[Figure]:
    """Ratios to the same work on few users and few partitions, on a server that keeps no append-only file."""
    with (
        Valkey(lab.folder / "growth", config={"appendonly": "no"}) as valkey,
        redis.Redis.from_url(valkey.url) as client,
    ):
        lab.say(f"growth: {FEW_USERS:,} users, {FEW_PARTITIONS} partitions")
        few = _tail_us(lab, valkey.url, client, FEW_USERS, FEW_PARTITIONS)
        lab.say(f"growth: {FEW_USERS:,} users, {MANY_PARTITIONS} partitions")
        spread = _tail_us(lab, valkey.url, client, FEW_USERS, MANY_PARTITIONS)
        lab.say(f"growth: {MANY_USERS:,} users known before, {FEW_PARTITIONS} partitions")
        many = _tail_us(lab, valkey.url, client, MANY_USERS, FEW_PARTITIONS)
    how = f"reference work, second half of {EVENTS:,} events;"
    return [
        figure(
            "growth_users", many / few, "x", (AT_MOST, 1.3), f"{how} 2 M known users: {many:.1f} µs, 20 k: {few:.1f} µs"
        ),
        figure("growth_partitions", spread / few, "x", (AT_MOST, 1.2), f"{how} 64 partitions: {spread:.1f} µs"),
    ]


def _tail_us(lab: Lab, url: str, client: redis.Redis, users: int, partitions: int) -> float:
    client.flushall()
    installation = lab.installation(REFERENCE, partitions=partitions)
    installation.redis_url = url
    traffic = reference(EVENTS, users=users)
    fill(installation, traffic)
    _know(installation, client, users)
    return catch_up_tail(installation, client, traffic.size)


def _know(installation: Installation, client: redis.Redis, users: int) -> None:
    """Give every user a row of an earlier life, with a full history."""
    layout = Layout(load(REFERENCE))
    row = layout.empty(1)
    row["schema"], row["history_n"] = layout.schema, layout.declaration.history
    row["first_ms"] = row["last_ms"] = START_MS - 86_400_000
    seconds = np.arange(layout.declaration.history, dtype=np.uint64) + np.uint64(START_MS // 1000 - 90_000)
    row["history"]["key"], row["history"]["item"] = seconds << np.uint64(32), 1
    blob = bytes(layout.pack(row)[0])
    tags = [Keys(installation.namespace).user_tag(p) for p in range(installation.partitions)]
    ids = map(b"%d".__mod__, range(1_000_000, 1_000_000 + users))
    while part := list(itertools.islice(ids, AT_ONCE)):
        homes = partitions_of(part, installation.partitions).tolist()
        client.mset({Keys.row(tags[home], user): blob for home, user in zip(homes, part, strict=True)})
