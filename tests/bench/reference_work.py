"""The reference work, Kairos and the others in turns: CPU an event, and what that is of the others' in the same run."""

import asyncio
from collections.abc import Callable, Mapping
from statistics import median

from tests.bench import produce
from tests.bench.check import check_reference
from tests.bench.figures import AROUND, AT_LEAST, AT_MOST, Figure, figure
from tests.bench.installation import REFERENCE, Installation
from tests.bench.lab import CatchUp, Lab, catch_up, fill
from tests.bench.others import raw_us_per_event, stock_faust_us_per_event
from tests.bench.traffic import WIRE, Traffic, reference

EVENTS, FEW_EVENTS, ROUNDS = 200_000, 5_000, 3
HOW = f"{EVENTS:,} events, 4 partitions, median of {ROUNDS} rounds"
SMALL_CHUNKS = {"KAIROS_CHUNK": "500", "KAIROS_BUFFER": "16"}
"""What a worker spends whose backlog comes in chunks an eighth of the default."""


def reference_figures(lab: Lab) -> list[Figure]:
    """Measure in interleaved rounds; every contender's rows are checked. Raises WrongRowsError."""
    traffic, home = reference(EVENTS), lab.installation(REFERENCE)
    fill(home, traffic)
    few = traffic.head(FEW_EVENTS)
    asyncio.run(produce.create(lab.broker.address, {"few": home.partitions}))
    asyncio.run(produce.publish(lab.broker.address, ["few"] * len(WIRE), few, home.partitions))
    raw, stock, ours, small = [], [], [], []
    for turn in range(ROUNDS):
        lab.say(f"reference work, round {turn + 1} of {ROUNDS}: raw consumer, Kairos, stock Faust")
        raw.append(raw_us_per_event(lab, home.topics.clicks, home.partitions, traffic))
        ours.append(kairos_round(lab, home, traffic))
        small.append(kairos_round(lab, home, traffic, SMALL_CHUNKS))
        stock.append(stock_faust_us_per_event(lab, "few", few, f"stock{turn}"))
    us, redis_us = middle(ours, lambda r: r.us_per_event), middle(ours, lambda r: r.redis_us_per_event)
    small_us, raw_us, stock_us = middle(small, lambda r: r.us_per_event), median(raw), median(stock)
    peak = middle(ours, lambda r: r.spent.peak_mb)
    return [
        figure(
            "stream_cpu_us_per_event", us, "µs", (AROUND, 5.5), f"{HOW}; peak {peak:.0f} MB; budget on a quiet machine"
        ),
        figure("ratio_raw_consumer", us / raw_us, "x", (AT_MOST, 3.2), f"to aiokafka + msgspec at {raw_us:.2f} µs"),
        figure(
            "ratio_stock_faust",
            stock_us / us,
            "x",
            (AT_LEAST, 60),
            f"stock Faust with GET + SET needs {stock_us:.0f} µs ({FEW_EVENTS:,} events)",
        ),
        figure("stream_cpu_us_per_event_chunks_500", small_us, "µs", None, "the same with KAIROS_CHUNK=500"),
        figure("ratio_raw_consumer_chunks_500", small_us / raw_us, "x", (AT_MOST, 3.2), "the same"),
        figure("redis_cpu_us_per_event", redis_us, "µs", (AT_MOST, 2), "reference work, Valkey, append-only file"),
    ]


def kairos_round(lab: Lab, home: Installation, traffic: Traffic, env: Mapping[str, str] | None = None) -> CatchUp:
    """One catch-up of Kairos over the topics of `home` into a fresh namespace, checked. Raises WrongRowsError."""
    lab.client.flushall()
    installation = home.sibling()
    installation.create()
    done = catch_up(installation, lab.client, traffic.size, env)
    check_reference(installation.rows(lab.client), traffic)
    return done


def middle(rounds: list[CatchUp], value: Callable[[CatchUp], float]) -> float:
    """The median of one number over the rounds."""
    return median(map(value, rounds))
