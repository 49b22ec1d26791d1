"""From an acknowledged event to the candidate it causes, at half of what both workers can do."""

import asyncio
import math
import time
import urllib.request
from collections.abc import Callable

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from deploy.stack.ports import free_port
from streams.features.declaration import CLICK, DEFAULT
from tests.bench.contender import Contender, ContenderError
from tests.bench.figures import AT_MOST, Figure, figure
from tests.bench.installation import Installation
from tests.bench.lab import Lab, applied, fill
from tests.bench.traffic import everything, retimed

USERS, ITEMS, PAST_EVENTS = 4_000, 2_000, 60_000
PAST_MS = 600_000  # younger than what counts as back-fill, which waits a minute by design
LIVE_S, WARM_S = 16, 4
LONGEST_WAIT_S = 20
MOST_PER_S = 2_000
ALLOWED_MS = 50
STAGES = ("rows", "retrieve", "collate", "forward", "decide", "produce", "acknowledge")
PERMISSIVE = {
    "KAIROS_MIN_SCORE": "0",
    "KAIROS_MIN_GRADE": "not_recommended",
    "KAIROS_DAILY_CAP": "1000000",
    "KAIROS_MINIMUM_GAP_S": "0",
    "KAIROS_QUIET_HOURS": "00:00-00:00",
    "KAIROS_BOUGHT_DAYS": "0",
    "KAIROS_PUSHED_DAYS": "0",
    "KAIROS_DEVICE": "cpu",
}
"""Every affected user gets a candidate, so that the candidates can be timed."""


def candidate_figures(lab: Lab) -> list[Figure]:
    """Stream worker and model worker together, on one machine with their servers."""
    lab.client.flushall()
    installation = lab.installation()
    now_ms = time.time_ns() // 1_000_000
    fill(installation, retimed(everything(PAST_EVENTS, users=USERS, items=ITEMS), now_ms - PAST_MS, PAST_MS))
    stream = installation.worker()
    try:
        stream.wait(applied(installation, lab.client))
        address = f"127.0.0.1:{free_port()}"
        model = installation.process("model", {**PERMISSIVE, "KAIROS_HTTP": address})
        try:
            return asyncio.run(_measure(lab, installation, model, address))
        finally:
            model.stop()
    finally:
        stream.stop()


async def _measure(lab: Lab, installation: Installation, model: Contender, address: str) -> list[Figure]:
    topic, partitions = installation.topics.recommendations, installation.partitions
    consumer = AIOKafkaConsumer(bootstrap_servers=installation.kafka, fetch_max_wait_ms=100)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, p) for p in range(partitions)])
        await consumer.seek_to_beginning()
        lab.say("candidates: what stream worker and model worker can do together")
        await _answer_the_past(consumer, model)
        capacity = await _capacity(installation, consumer)
        rate = min(capacity / 2, MOST_PER_S)
        lab.say(f"candidates: {capacity:,.0f} clicks/s at most; now {rate:,.0f} clicks/s for {LIVE_S} s")
        before = await asyncio.to_thread(_totals, address)
        cpu_s = model.spent().cpu_s
        waits_ms = (await _waits_ms(installation, consumer, int(rate * LIVE_S), rate))[int(rate * WARM_S) :]
        cpu_s = model.spent().cpu_s - cpu_s
        stages = _stages(before, await asyncio.to_thread(_totals, address))
    finally:
        await consumer.stop()
    delay_ms = DEFAULT.delays_ms[CLICK]
    p50, p99 = np.percentile(waits_ms, (50, 99)).tolist()
    how = f"clicks at {rate:,.0f}/s = half of {capacity:,.0f}/s; {delay_ms} ms by design; p50 {p50:.0f}; blend, CPU"
    return [
        figure("event_to_candidate_p99_ms", p99, "ms", (AT_MOST, delay_ms + ALLOWED_MS), how),
        figure("model_cpu_us_per_user", 1e6 * cpu_s / int(rate * LIVE_S), "us", None, "model worker, at that rate"),
        *stages,
    ]


def _totals(address: str) -> dict[str, tuple[float, float]]:
    """(seconds, number) of each stage of the model worker until now."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    of_stage = {name: f'kairos_stage_seconds_{{}}{{{{stage="{name}"}}}}' for name in STAGES}
    of_stage |= {"queue": 'kairos_queue_wait_seconds_{}{{class="click"}}', "batch": "kairos_batch_wait_seconds_{}"}
    return {
        name: (float(values.get(key.format("sum"), 0)), float(values.get(key.format("count"), 0)))
        for name, key in of_stage.items()
    }


def _stages(before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]) -> list[Figure]:
    """The mean time of each stage between the two readings."""
    figures = []
    for name, (seconds, number) in after.items():
        spent_s, times = seconds - before[name][0], number - before[name][1]
        unit = (
            "a user, after its deadline" if name == "queue" else "a user, for company" if name == "batch" else "a batch"
        )
        mean_ms = 1000 * spent_s / times if times else None
        figures.append(figure(f"model_{name}_ms", mean_ms, "ms", None, f"mean of {times:,.0f}: {unit}"))
    return figures


async def _answer_the_past(consumer: AIOKafkaConsumer, model: Contender) -> None:
    """Wait until the model worker has answered everybody whom the past has left in the queue."""
    seen: set[str] = set()
    deadline_s = time.monotonic() + 90
    while len(seen) < USERS * 0.9:
        seen |= (await _arrivals(consumer, 0.2)).keys()
        if model.process.poll() is not None or time.monotonic() > deadline_s:
            tail = model.log.read_text(errors="replace")[-800:]
            message = f"the model worker answered {len(seen)} of {USERS} users; its log closes with:\n{tail}"
            raise ContenderError(message)
    while await _arrivals(consumer, 2.0):
        pass


async def _capacity(installation: Installation, consumer: AIOKafkaConsumer) -> float:
    """Clicks a second that become candidates when everybody clicks once, as fast as clicks can be sent."""
    waits_ms = np.sort(await _waits_ms(installation, consumer, USERS, math.inf))
    longest_ms = float(waits_ms[int(0.9 * USERS)]) - DEFAULT.delays_ms[CLICK]
    return 0.9 * USERS / longest_ms * 1000


async def _waits_ms(installation: Installation, consumer: AIOKafkaConsumer, count: int, rate: float) -> list[float]:
    """Send clicks of one user after the other; milliseconds from each acknowledgement to the candidate's arrival."""
    everybody = np.random.default_rng(3).permutation(USERS) + 1_000_000
    clicks = everything(count, users=USERS, items=ITEMS)
    clicks = clicks._replace(user=np.resize(everybody, count), kind=np.ones(count, np.int64))
    clicks = retimed(clicks, time.time_ns() // 1_000_000, round(1000 * count / rate))
    waiting: dict[str, list[float]] = {}
    waits: list[float] = []
    sending = asyncio.create_task(_send(installation, clicks.keys(), clicks.values(), rate, waiting))
    deadline_s = time.monotonic() + count / rate + LONGEST_WAIT_S
    while waiting or not sending.done():
        arrived = await _arrivals(consumer, 0.05)
        if time.monotonic() > deadline_s:
            message = f"{len(waiting)} users had clicked and got no candidate in {LONGEST_WAIT_S} s"
            raise ContenderError(message)
        for user, at_s in arrived.items():
            if acknowledged := waiting.pop(user, None):
                waits.append((at_s - acknowledged[0]) * 1000)
    await sending
    return waits


async def _send(
    installation: Installation,
    keys: list[bytes],
    values: list[bytes],
    rate: float,
    waiting: dict[str, list[float]],
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=installation.kafka)
    await producer.start()
    try:
        started_s = time.monotonic()
        for at, (key, value) in enumerate(zip(keys, values, strict=True)):
            if (ahead_s := started_s + at / rate - time.monotonic()) > 0:
                await asyncio.sleep(ahead_s)
            sent = await producer.send(installation.topics.clicks, key=key, value=value)
            sent.add_done_callback(_note(waiting, key.decode()))
    finally:
        await producer.stop()


def _note(waiting: dict[str, list[float]], user: str) -> Callable[[object], None]:
    """A call-back that writes down when it was called: a user waits from the first click that is not answered."""
    return lambda _: waiting.setdefault(user, []).append(time.monotonic())


async def _arrivals(consumer: AIOKafkaConsumer, timeout_s: float) -> dict[str, float]:
    """When each user's candidate arrived, of those that come within the time or, when any comes, at once."""
    batch = await consumer.getmany(timeout_ms=int(timeout_s * 1000))
    now_s = time.monotonic()
    return {record.key.decode(): now_s for records in batch.values() for record in records}
