"""What batches and overlapped steps gain the model worker, a queue full of due users before it."""

import dataclasses
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np

from deploy.stack.ports import free_port
from model_server.blend import default_blend
from model_server.bundle import Bundle, save
from model_server.model_folder import make_current
from model_server.preparation import Preparation
from model_server.training.asof import neighbours_before
from model_server.training.recorded import RawEvent, record
from schemas.keys import Keys
from streams.features.declaration import DEFAULT
from tests.bench.candidates import PERMISSIVE
from tests.bench.contender import Contender, python
from tests.bench.figures import AT_LEAST, Figure, figure
from tests.bench.installation import Installation
from tests.bench.lab import Lab, applied, fill
from tests.bench.ranker import drawn_net
from tests.bench.traffic import Traffic, everything, retimed

USERS, ITEMS, EVENTS = 6_000, 2_000, 120_000
PAST_MS = 600_000
WARM_USERS, LEFT_USERS, LONGEST_S = 200, 800, 8.0
"""Nothing is measured of the first users nor of the last, nor for longer than this."""
ROUNDS = 2
ASK_S = 0.5
"""Between two looks at the worker's metrics, which cost it 1.5 ms each: at 20 a second they were 5 % of its CPU."""

Start = Callable[[dict[str, str]], Contender]


@dataclasses.dataclass(frozen=True)
class Rate:
    """What a worker does at saturation."""

    users_per_s: float
    cpu_ms_per_user: float


def batching_figures(lab: Lab) -> list[Figure]:
    """The real model worker, the same in batches of one, and a plain worker that takes one user after the other."""
    lab.client.flushall()
    installation = lab.installation()
    now_ms = time.time_ns() // 1_000_000
    traffic = retimed(everything(EVENTS, users=USERS, items=ITEMS), now_ms - PAST_MS, PAST_MS)
    fill(installation, traffic)
    stream = installation.worker()
    try:
        stream.wait(applied(installation, lab.client))
    finally:
        stream.stop()
    folder = lab.folder / "bundles"
    bundle = drawn_bundle(traffic)
    save(folder, bundle)
    make_current(folder, bundle.version, "train", now_ms)
    users = waiting(lab, installation)
    ways: dict[str, Start] = {
        "batches": lambda env: installation.process("model", env),
        "batches of one": lambda env: installation.process("model", {**env, "KAIROS_BATCH_USERS": "1"}),
        "one by one": lambda env: installation.started("one-by-one", python("tests.bench.one_by_one"), env),
    }
    rates: dict[str, list[Rate]] = {way: [] for way in ways}
    for turn in range(ROUNDS):
        for way, start in ways.items():
            lab.say(f"batching, round {turn + 1} of {ROUNDS}: {way}")
            queue_up(lab, users)
            rates[way].append(rate_of(start, sum(map(len, users.values())), folder))
    return _figures(rates)


def _figures(rates: dict[str, list[Rate]]) -> list[Figure]:
    """Medians, and the gain over the plain worker."""
    speed = {way: float(np.median([rate.users_per_s for rate in found])) for way, found in rates.items()}
    cpu_ms = {way: float(np.median([rate.cpu_ms_per_user for rate in found])) for way, found in rates.items()}
    batches, ones, plain = rates
    over_ones = speed[batches] / speed[ones]
    how = (
        f"users/s of the model worker, {speed[batches]:,.0f}, over a worker that takes each user alone from lease to "
        f"acknowledgement, {speed[plain]:,.0f}; over batches of one, whose steps still overlap: {over_ones:.2f}"
    )
    gain = figure("batching_gain", speed[batches] / speed[plain], "x", (AT_LEAST, 8), how)
    told = [
        figure(
            f"worker_{what}_{way.replace(' ', '_')}", values[way], unit, None, "model worker, lease to acknowledgement"
        )
        for way in rates
        for what, unit, values in (("users_per_s", "users/s", speed), ("cpu_ms_per_user", "ms", cpu_ms))
    ]
    return [gain, *told]


def drawn_bundle(traffic: Traffic) -> Bundle:
    """A net of the default size with drawn weights, and the neighbours that the traffic teaches."""
    events = (RawEvent("", key, value) for key, value in zip(traffic.keys(), traffic.values(), strict=True))
    log = record(events, {}, DEFAULT, "UTC")
    preparation = Preparation(DEFAULT, np.sort(log.codes), neighbours_before(log, DEFAULT, len(log)))
    net, names = drawn_net(preparation, encoder=True), preparation.retriever.names
    return Bundle(
        version="bench",
        schema=DEFAULT.schema,
        counters=preparation.counters.names,
        lists=names,
        history=preparation.history,
        words=preparation.words,
        neighbours=preparation.neighbours,
        blend=default_blend(names),
        calibrations={"net": (1.0, 0.0), "blend": (1.0, 0.0)},
        shape=dataclasses.asdict(net.shape),
        weights={name: part.numpy().copy() for name, part in net.state_dict().items()},
        report={},
    )


def waiting(lab: Lab, installation: Installation) -> dict[bytes, list[bytes]]:
    """Users by the tag of their partition."""
    users: dict[bytes, list[bytes]] = {}
    tags = [Keys(installation.namespace).user_tag(partition) for partition in range(installation.partitions)]
    for tag in tags:
        users[tag] = cast("list[bytes]", lab.client.zrange(Keys.queue(tag), 0, -1))
    return users


def queue_up(lab: Lab, users: dict[bytes, list[bytes]]) -> None:
    """Let everybody be due, nobody leased and nobody pushed before."""
    due = (time.time_ns() // 1_000_000 - 1_000) * 4
    pipe = lab.client.pipeline(transaction=False)
    for tag, some in users.items():
        pipe.delete(Keys.queue(tag), Keys.leased(tag), *(Keys.pushes(tag, user) for user in some))
        pipe.zadd(Keys.queue(tag), dict.fromkeys(some, due + 1))
    pipe.execute()


def rate_of(start: Start, users: int, folder: Path) -> Rate:
    """Start a worker before a full queue, and measure it between its first users and its last."""
    address = f"127.0.0.1:{free_port()}"
    worker = start({**PERMISSIVE, "KAIROS_HTTP": address, "KAIROS_MODEL_DIR": str(folder)})
    try:
        worker.wait(lambda: ended(address) >= WARM_USERS)
        before, before_s, before_cpu_s = ended(address), time.monotonic(), worker.spent().cpu_s
        worker.wait(
            lambda: ended(address) >= users - LEFT_USERS or time.monotonic() - before_s > LONGEST_S, every_s=ASK_S
        )
        after, after_s, after_cpu_s = ended(address), time.monotonic(), worker.spent().cpu_s
    finally:
        worker.stop()
    done = after - before
    return Rate(done / (after_s - before_s), 1000 * (after_cpu_s - before_cpu_s) / done)


def ended(address: str) -> float:
    """Users whose end the worker has acknowledged."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:  # It is starting.
        return 0
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("kairos_decisions_total{"))
