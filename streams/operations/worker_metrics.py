"""Reads what workers say at /metrics: user events that they applied, and their CPU time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

APPLIED, CPU = "kairos_applied_records_total", "process_cpu_seconds_total"
WITHIN_S = 5.0


class WorkerWork(NamedTuple):
    """User events that one or several workers applied since their start, and the CPU seconds they took."""

    events: int
    cpu_s: float


class MetricsError(Exception):
    """A worker's metrics cannot be read; the sentence names the address."""


def parsed(text: str) -> WorkerWork:
    """The work of one worker from its metrics. Raises ValueError on what is no worker's."""
    events, cpu_s = None, None
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == APPLIED and sample.labels.get("table") == "users":
                events = int(sample.value)
            elif sample.name == CPU:
                cpu_s = sample.value
    if events is None or cpu_s is None:
        msg = f"it does not tell {APPLIED if events is None else CPU}"
        raise ValueError(msg)
    return WorkerWork(events, cpu_s)


async def work_of(urls: Sequence[str]) -> WorkerWork:
    """The work of all workers together. Raises MetricsError."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WITHIN_S)) as session:
        each = await asyncio.gather(*[_work(session, url) for url in urls])
    return WorkerWork(sum(work.events for work in each), sum(work.cpu_s for work in each))


async def _work(session: aiohttp.ClientSession, url: str) -> WorkerWork:
    address = url if "://" in url else f"http://{url}"
    address = address if address.rstrip("/").endswith("/metrics") else f"{address.rstrip('/')}/metrics"
    try:
        async with session.get(address) as answer:
            answer.raise_for_status()
            return parsed(await answer.text())
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        reason = str(error) or type(error).__name__
        msg = f"No worker's metrics at {address}: {reason}. Give --metrics the host:port of KAIROS_HTTP of each worker."
        raise MetricsError(msg) from error
