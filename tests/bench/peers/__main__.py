"""`python -m tests.bench.peers`: Kairos beside Bytewax and Quix, in one table and in build/bench-peers.json."""

import asyncio
import pickle
import sqlite3
import sys
import time
from pathlib import Path
from statistics import median

from aiokafka import AIOKafkaConsumer, TopicPartition
from rich.console import Console

from tests.bench.check import WrongRowsError
from tests.bench.contender import Contender, ContenderError, Spent
from tests.bench.figures import AT_LEAST, Figure, figure, show, write
from tests.bench.gate import Gate
from tests.bench.installation import REFERENCE
from tests.bench.lab import MICRO, Lab, fill, open_lab
from tests.bench.others import check_packed
from tests.bench.peers.environment import peers_python
from tests.bench.reference_work import kairos_round, middle
from tests.bench.traffic import Traffic, reference

OUT = Path("build/bench-peers.json")
EVENTS, ROUNDS = 200_000, 3
PEER_TIMEOUT_S = 120


def peer_figures(lab: Lab, python: Path) -> list[Figure]:
    """Interleaved rounds of the same work on the same topic; every contender's rows are checked."""
    traffic, home = reference(EVENTS), lab.installation(REFERENCE)
    fill(home, traffic)
    ours, bytewax, quix = [], [], []
    for turn in range(ROUNDS):
        lab.say(f"reference work, round {turn + 1} of {ROUNDS}: Kairos, Bytewax, Quix")
        ours.append(kairos_round(lab, home, traffic))
        bytewax.append(_bytewax(lab, python, home.topics.clicks, traffic, turn))
        quix.append(_quix(lab, python, home.topics.clicks, home.partitions, traffic, turn))
    us = middle(ours, lambda r: r.us_per_event)

    def against(name: str, budget: float, rounds: list[Spent], what: str) -> Figure:
        theirs = median(spent.cpu_s for spent in rounds) / EVENTS * MICRO
        peak = median(spent.peak_mb for spent in rounds)
        how = f"{what}: {theirs:.1f} µs, peak {peak:.0f} MB; Kairos: {us:.1f} µs; {EVENTS:,} events, median of {ROUNDS}"
        return figure(name, theirs / us, "x", (AT_LEAST, budget), how)

    return [
        against("ratio_bytewax", 2.3, bytewax, "Bytewax stateful_map + SQLite recovery"),
        against("ratio_quix", 5, quix, "Quix State on RocksDB with a changelog"),
    ]


def _run(lab: Lab, python: Path, module: str, *arguments: str) -> Spent:
    gate = Gate(lab.broker.port)
    command = [str(python), "-W", "ignore", "-m", f"tests.bench.peers.{module}", gate.address, *arguments]
    return Contender(module, command, {}, folder=lab.folder, gate=gate).run_until_said(PEER_TIMEOUT_S)


def _bytewax(lab: Lab, python: Path, topic: str, traffic: Traffic, turn: int) -> Spent:
    recovery = lab.folder / f"bytewax{turn}"
    spent = _run(lab, python, "bytewax_flow", topic, str(recovery))
    check_packed("Bytewax", traffic, _snapshots(recovery / "part-0.sqlite3"))
    return spent


def _snapshots(file: Path) -> dict[str, bytes]:
    """The newest snapshot of every row in Bytewax's recovery store."""
    newest = "SELECT state_key, ser_change, MAX(snap_epoch) FROM snaps WHERE step_id LIKE '%.rows%' GROUP BY state_key"
    with sqlite3.connect(file) as store:
        return {key: bytes(pickle.loads(change)) for key, change, _ in store.execute(newest)}


def _quix(lab: Lab, python: Path, topic: str, partitions: int, traffic: Traffic, turn: int) -> Spent:
    group = f"quix{turn}"
    spent = _run(lab, python, "quix_app", topic, str(traffic.size), str(lab.folder / group), group)
    check_packed("Quix", traffic, asyncio.run(_changelog(lab, f"changelog__{group}--{topic}--default", partitions)))
    return spent


async def _changelog(lab: Lab, topic: str, partitions: int) -> dict[str, bytes]:
    """The newest value of every key in a changelog; keys are `user|"row"`."""
    consumer = AIOKafkaConsumer(bootstrap_servers=lab.broker.address)
    await consumer.start()
    try:
        wanted = [TopicPartition(topic, p) for p in range(partitions)]
        consumer.assign(wanted)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(wanted)
        rows: dict[str, bytes] = {}
        while any([await consumer.position(at) < ends[at] for at in wanted]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                rows |= {record.key.partition(b"|")[0].decode(): record.value for record in records}
        return rows
    finally:
        await consumer.stop()


def main() -> int:
    """Make the environment, measure, show and write; 1 when rows were wrong or a peer failed."""
    console, started_s = Console(), time.monotonic()
    with console.status("installing Bytewax and Quix into build/peers-venv"):
        python = peers_python()
    with open_lab(console) as lab:
        try:
            figures = peer_figures(lab, python)
        except (ContenderError, WrongRowsError) as wrong:
            console.print(f"[red]{wrong}[/]")
            return 1
    show(f"Kairos and its peers, measured in {time.monotonic() - started_s:.0f} s", figures, console)
    write(OUT, figures)
    console.print(f"written to {OUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
