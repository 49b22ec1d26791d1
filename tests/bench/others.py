"""Runs of the contenders that do without Kairos: the raw consumer and a stock Faust agent."""

from collections.abc import Mapping
from typing import cast

from tests.bench.check import WrongRowsError
from tests.bench.contender import Contender, python
from tests.bench.expected import users_of, wrong_rows
from tests.bench.gate import Gate
from tests.bench.lab import MICRO, Lab
from tests.bench.traffic import Traffic


def raw_us_per_event(lab: Lab, topic: str, partitions: int, traffic: Traffic) -> float:
    """CPU of reading and decoding everything and doing nothing with it. Raises WrongRowsError when it missed events."""
    gate = Gate(lab.broker.port)
    command = python("tests.bench.raw_consumer", gate.address, topic, str(partitions))
    spent = Contender("raw", command, {}, folder=lab.folder, gate=gate).run_until_said()
    if int(spent.said) != int(traffic.ts_ms.sum()):
        message = "the raw consumer did not decode the events that were sent"
        raise WrongRowsError(message)
    return spent.cpu_s / traffic.size * MICRO


def stock_faust_us_per_event(lab: Lab, topic: str, traffic: Traffic, name: str) -> float:
    """CPU of a stock agent with GET and SET an event; its rows in Redis are checked. Raises WrongRowsError."""
    gate = Gate(lab.broker.port)
    env = {
        "BENCH_KAFKA": gate.address,
        "BENCH_REDIS": lab.valkey.url,
        "BENCH_TOPIC": topic,
        "BENCH_EVENTS": str(traffic.size),
        "BENCH_KEYS": name,
        "BENCH_FOLDER": str(lab.folder / "faust"),
    }
    command = python("tests.bench.stock_faust", "worker", "-l", "error")
    spent = Contender("stock-faust", command, env, folder=lab.folder, gate=gate).run_until_said()
    keys = list(lab.client.scan_iter(match=f"{name}:*", count=5_000))
    found = cast("list[bytes]", lab.client.mget(keys))
    rows = {key.decode().partition(":")[2]: row for key, row in zip(keys, found, strict=True)}
    check_packed("stock Faust", traffic, rows)
    return spent.cpu_s / traffic.size * MICRO


def check_packed(who: str, traffic: Traffic, rows: Mapping[str, bytes]) -> None:
    """Compare rows as `reference.fold` packs them with the whole history. Raises WrongRowsError."""
    wrong = wrong_rows(users_of(traffic), rows)
    if wrong:
        message = f"{wrong} rows of {who} are not what the history says"
        raise WrongRowsError(message)
