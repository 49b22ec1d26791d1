"""The operator's verbs: how fast a log is counted and rebuilt, in one process and two, and that rows come out equal."""

import os
import subprocess
from typing import Any, cast

import numpy as np
import orjson
import redis

from schemas.keys import Keys
from tests.bench.check import WrongRowsError
from tests.bench.contender import ROOT, ContenderError
from tests.bench.figures import AT_LEAST, AT_MOST, Figure, figure
from tests.bench.installation import KAIROS, REFERENCE, Installation
from tests.bench.lab import Lab, applied, fill, publish
from tests.bench.traffic import Traffic, everything, reference

EVENTS = int(os.environ.get("BENCH_EVENTS", "2000000"))
"""Of the reference log that is rebuilt: BENCH_EVENTS=10000000 for a large one, which takes a quarter of an hour."""
USERS, FULL_EVENTS = 20_000, min(200_000, EVENTS)
AT_ONCE = 1_000_000
WITHIN_S = 1_800


def operations_figures(lab: Lab) -> list[Figure]:
    """Figures of replay and rebuild. Raises WrongRowsError."""
    return [*_reference(lab), *_full(lab)]


def _reference(lab: Lab) -> list[Figure]:
    lab.client.flushall()
    installation = lab.installation(REFERENCE)
    installation.create()
    lab.say(f"operations: a reference log of {EVENTS:,} events, and a live worker that applies it")
    traffic = reference(EVENTS, users=USERS)
    for first in range(0, EVENTS, AT_ONCE):
        publish(installation, _part(traffic, first))
    installation.worker().run(applied(installation, lab.client), timeout_s=WITHIN_S)
    lab.say("operations: dry run, rebuild in one process, rebuild in two")
    dry = _replay(installation, "--mode", "dry-run")["counts"]
    one = _replay(installation, "--into", "one")["counts"]
    two = _replay(installation, "--into", "two", "--processes", "2")["counts"]
    wrong = sum(_different(installation, lab.client, run) for run in ("one", "two"))
    if wrong:
        message = f"{wrong} rows of a rebuild differ from the live ones"
        raise WrongRowsError(message)
    rates = [count["events"] / count["work_ms"] * 1000 for count in (dry, one)]
    both = 2 * two["events"] / two["work_ms"] * 1000
    how = f"{EVENTS:,} reference events, {USERS:,} users, chunks of 4,000"
    cpu_us, both_us = [count["cpu_ms"] / count["events"] * 1000 for count in (one, two)]
    return [
        figure("replay_events_per_s", rates[0], "1/s", (AT_LEAST, 100_000), f"dry run, one process; {how}"),
        figure("rebuild_events_per_s", rates[1], "1/s", (AT_LEAST, 100_000), f"one process; {how}"),
        figure("rebuild_cpu_us_per_event", cpu_us, "µs", (AT_MOST, 10), "the same run, CPU of the process"),
        figure(
            "rebuild_two_processes", both / rates[1], "x", (AT_LEAST, 1.8), f"events/s of two processes ({both:,.0f})"
        ),
        figure(
            "rebuild_two_processes_cpu",
            both_us / cpu_us,
            "",
            (AT_MOST, 1.2),
            "CPU an event of two processes over that of one: linear wherever there are cores for both and the servers",
        ),
        figure("rebuild_wrong_rows", 0, "rows", (AT_MOST, 0), "bit for bit against the live rows, both rebuilds"),
    ]


def _full(lab: Lab) -> list[Figure]:
    lab.say(f"operations: rebuild of the full row, {FULL_EVENTS:,} events of 8 kinds, users and items")
    lab.client.flushall()
    installation, traffic = lab.installation(), everything(FULL_EVENTS)
    fill(installation, traffic)
    installation.worker().run(applied(installation, lab.client), timeout_s=WITHIN_S)
    counts = _replay(installation, "--into", "full")["counts"]
    if wrong := _different(installation, lab.client, "full"):
        message = f"{wrong} full rows of a rebuild differ from the live ones"
        raise WrongRowsError(message)
    how = "full row, users and items; equal to the live rows bit for bit"
    cpu_us = counts["cpu_ms"] / counts["events"] * 1000
    return [figure("rebuild_full_row_cpu_us_per_event", cpu_us, "µs", (AT_MOST, 14), how)]


def _part(traffic: Traffic, first: int) -> Traffic:
    number = np.arange(traffic.size)
    return traffic.only((first <= number) & (number < first + AT_ONCE))


def _replay(installation: Installation, *options: str) -> dict[str, Any]:
    """Run `kairos replay` to its end; what it told."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KAIROS_")}
    command = [*KAIROS, "replay", *options, "--execute", "--json"]
    done = subprocess.run(
        command, env=clean | installation.env, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    if done.returncode:
        message = f"kairos replay failed: {done.stdout}{done.stderr}"
        raise ContenderError(message)
    told: dict[str, Any] = orjson.loads(done.stdout)
    return told


def _different(installation: Installation, client: redis.Redis, run: str) -> int:
    """How many rows of users and items of a run are not, byte for byte, the live ones."""
    beside = installation.sibling()
    beside.namespace = run
    live, mine = installation.rows(client), beside.rows(client)
    wrong = sum(live.get(user) != mine.get(user) for user in live.keys() | mine.keys())
    for partition in range(installation.item_partitions):
        items = [_items(client, Keys(name), partition) for name in (installation.namespace, run)]
        wrong += sum(items[0].get(item) != items[1].get(item) for item in items[0].keys() | items[1].keys())
    return wrong


def _items(client: redis.Redis, keys: Keys, partition: int) -> dict[bytes, bytes]:
    return cast("dict[bytes, bytes]", client.hgetall(Keys.item_rows(keys.item_tag(partition)).decode()))
