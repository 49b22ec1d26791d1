"""The full default row with item deltas and the item side: catching up, living at a steady rate, and Redis's memory."""

import asyncio
import shutil
import time
from statistics import median

import redis
from aiokafka import AIOKafkaProducer

from deploy.stack.child import Child
from deploy.stack.ports import free_port
from deploy.stack.protocol import redis_answers
from schemas.keys import Keys
from tests.bench.check import check_everything
from tests.bench.contender import Contender
from tests.bench.figures import AT_MOST, Figure, figure
from tests.bench.installation import Installation
from tests.bench.lab import MICRO, Lab, applied, catch_up, fill
from tests.bench.traffic import Traffic, everything, retimed

EVENTS, ROUNDS = 200_000, 3
LIVE_PER_S, WARM_S, MEASURED_S = 5_000, 5, 15


def full_row_figures(lab: Lab) -> list[Figure]:
    """Catch up in fresh installations; sums of all rows and a sample of them are checked. Raises WrongRowsError."""
    traffic = everything(EVENTS)
    runs = []
    for turn in range(ROUNDS):
        lab.say(f"full row, round {turn + 1} of {ROUNDS}")
        lab.client.flushall()
        installation = lab.installation()
        fill(installation, traffic)
        runs.append(catch_up(installation, lab.client, traffic.size))
        check_everything(installation, lab.client, traffic)
    us, redis_us = median(r.us_per_event for r in runs), median(r.redis_us_per_event for r in runs)
    how = f"{EVENTS:,} events of 8 kinds, users and items in one worker, median of {ROUNDS}"
    peak = median(r.spent.peak_mb for r in runs)
    return [
        figure("full_row_cpu_us_per_event", us, "µs", (AT_MOST, 14), f"{how}; peak {peak:.0f} MB"),
        figure("redis_cpu_us_per_event_full", redis_us, "µs", (AT_MOST, 4), "the same runs, Valkey, append-only file"),
    ]


def live_figures(lab: Lab) -> list[Figure]:
    """Let a worker live at a steady rate. Raises WrongRowsError."""
    lab.say(f"full row, live at {LIVE_PER_S:,} events/s for {WARM_S + MEASURED_S} s")
    lab.client.flushall()
    installation = lab.installation()
    installation.create()
    traffic = everything(LIVE_PER_S * (WARM_S + MEASURED_S))
    traffic = retimed(traffic, time.time_ns() // 1_000_000, (WARM_S + MEASURED_S) * 1000)
    worker = installation.worker()
    try:
        us = asyncio.run(_live(installation, traffic, worker))
        worker.wait(applied(installation, lab.client))
    finally:
        worker.stop()
    check_everything(installation, lab.client, traffic)
    return [figure("live_cpu_us_per_event", us, "µs", (AT_MOST, 60), f"full row at {LIVE_PER_S:,} events/s")]


async def _live(installation: Installation, traffic: Traffic, worker: Contender) -> float:
    """Send the events at their pace; CPU µs an event after the warm-up."""
    keys, values = traffic.keys(), traffic.values()
    topics = [installation.topic_of_kinds()[kind] for kind in traffic.kind.tolist()]
    producer = AIOKafkaProducer(bootstrap_servers=installation.kafka, linger_ms=5)
    await producer.start()
    try:
        started_s = time.monotonic()
        measured_from, cpu_s = 0, 0.0
        for first in range(0, traffic.size, LIVE_PER_S // 50):
            await asyncio.sleep(max(0.0, started_s + first / LIVE_PER_S - time.monotonic()))
            if not measured_from and first >= WARM_S * LIVE_PER_S:
                measured_from, cpu_s = first, worker.spent().cpu_s
            for at in range(first, min(first + LIVE_PER_S // 50, traffic.size)):
                await producer.send(topics[at], key=keys[at], value=values[at])
        return (worker.spent().cpu_s - cpu_s) / (traffic.size - measured_from) * MICRO
    finally:
        await producer.stop()


def memory_figures(lab: Lab) -> list[Figure]:
    """Bytes of Redis a user, items left out: on a jemalloc build when one is on the PATH."""
    program = shutil.which("redis-server")
    if program is None:
        return [_bytes_per_user(lab, lab.valkey.url)]
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(lab.folder)]
    server = Child.start("redis-server", command, folder=lab.folder, log=lab.folder / "redis.log")
    try:
        server.wait_ready(lambda: redis_answers(port), 20)
        return [_bytes_per_user(lab, f"redis://127.0.0.1:{port}")]
    finally:
        server.stop()


def _bytes_per_user(lab: Lab, url: str) -> Figure:
    lab.say("full row, memory of Redis a user")
    traffic = everything(EVENTS)
    users = len(set(traffic.user.tolist()))
    with redis.Redis.from_url(url) as client:
        client.execute_command("FLUSHALL", "SYNC")  # what is freed later would count as there before
        before = int(client.info("memory")["used_memory"])
        installation = lab.installation()
        installation.redis_url = url
        fill(installation, traffic)
        catch_up(installation, client, traffic.size)
        check_everything(installation, client, traffic)
        for partition in range(installation.item_partitions):
            tag = Keys(installation.namespace).item_tag(partition)
            client.delete(Keys.item_rows(tag), Keys.touched(tag), Keys.catalogue(tag))
        memory = client.info("memory")
        server = client.info("server")
    allocator, version = memory["mem_allocator"], server.get("valkey_version") or server["redis_version"]
    how = f"{EVENTS / users:.0f} events a user on average, queue included, items not; {version} on {allocator}"
    value = (int(memory["used_memory"]) - before) / users
    return figure("redis_bytes_per_active_user", value, "bytes", (AT_MOST, 1024), how)
