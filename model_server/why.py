"""`kairos why USER`: the latest decisions about one user, with every rule that was looked at and what it saw."""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from msgspec import DecodeError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from model_server.policy.rules import ITEM_RULES, USER_RULES, Verdict
from schemas.decisions import Decision, Step, decode
from schemas.faults import bad_ids
from schemas.partition import partition_of
from streams.service.entry import NoEntryError, entering
from streams.service.kafka import client_options
from streams.service.settings import Connections
from streams.service.trouble import clause

FIRST_WINDOW = 500
GROWTH = 4
LARGEST_WINDOW = 100_000
WAIT_MS = 1_000

RULES: tuple[Callable[..., Verdict], ...] = (*USER_RULES, *ITEM_RULES)
MEANING = {rule.__name__: (rule.__doc__ or "").partition(";")[0] for rule in RULES}
"""What each rule says where it does not pass: the first words of its docstring."""
SECONDS = {"expired", "minimum_gap", "already_bought", "already_pushed"}
MINUTES = {"quiet_hours"}
TIMES = {"opted_out", "token_dead"}
STYLES = {"sent": "green", "held": "yellow", "refused": "red"}


class WhyError(Exception):
    """The decisions cannot be read; the text says what to do."""


class Found(NamedTuple):
    """One decision and its record's bytes and offset."""

    offset: int
    value: bytes
    decision: Decision


async def why(connections: Connections, user: str, *, newest: int, as_json: bool) -> int:
    """Print the newest decisions about a user, newest first; 0, or 1 after saying why there is none."""
    for _, _, sentence in bad_ids("user_id", [user]):
        print(sentence, file=sys.stderr)
        return 1
    try:
        async with entering(connections):
            found = await read(connections, user, newest)
    except NoEntryError as error:
        print(f"The decisions cannot be read. {error}", file=sys.stderr)
        return 1
    except WhyError as error:
        print(f"The decisions cannot be read: {clause(error)}.", file=sys.stderr)
        return 1
    except (KafkaError, OSError) as error:
        print(f"The decisions cannot be read ({clause(error)}): set KAIROS_KAFKA to where they are.", file=sys.stderr)
        return 1
    if not found:
        print(f"No decision about user {user} is kept in {connections.topics.decisions}.", file=sys.stderr)
        return 1
    if as_json:
        for each in found:
            print(orjson.dumps({"offset": each.offset, **orjson.loads(each.value)}).decode())
    else:
        show(Console(highlight=False), found)
    return 0


async def read(connections: Connections, user: str, newest: int) -> list[Found]:
    """The newest decisions about a user, newest first, from that user's partition read backwards."""
    topic, key = connections.topics.decisions, user.encode()
    partition = TopicPartition(topic, partition_of(key, await _partitions(connections, topic)))
    consumer = AIOKafkaConsumer(**client_options(connections), enable_auto_commit=False)
    try:
        await consumer.start()
        consumer.assign([partition])
        first = (await consumer.beginning_offsets([partition]))[partition]
        end = (await consumer.end_offsets([partition]))[partition]
        found: list[Found] = []
        window = FIRST_WINDOW
        with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
            bar = progress.add_task(f"Reading {topic} backwards", total=end - first)
            while end > first and len(found) < newest:
                start = max(first, end - window)
                found += reversed(await _between(consumer, partition, start, end, key))
                progress.advance(bar, end - start)
                end, window = start, min(window * GROWTH, LARGEST_WINDOW)
        return found[:newest]
    finally:
        await consumer.stop()


async def _partitions(connections: Connections, topic: str) -> int:
    """How many partitions a topic has. Raises WhyError for one that does not exist."""
    admin = AIOKafkaAdminClient(**client_options(connections))
    try:
        await admin.start()
        (found,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    if not found["partitions"]:
        text = f"topic {topic} does not exist; run `kairos topics create`, or set KAIROS_TOPIC_PREFIX"
        raise WhyError(text)
    return len(found["partitions"])


async def _between(
    consumer: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int, key: bytes
) -> list[Found]:
    """Decisions with this key in start .. end (excluded), in order."""
    consumer.seek(partition, start)
    found: list[Found] = []
    while await consumer.position(partition) < end:
        for record in (await consumer.getmany(partition, timeout_ms=WAIT_MS)).get(partition, []):
            if record.key == key and record.offset < end:
                found += _found(record.offset, record.value)
    return found


def _found(offset: int, value: bytes) -> list[Found]:
    """The decision, or nothing where another producer wrote something that is none."""
    try:
        return [Found(offset, value, decode(value))]
    except DecodeError:
        return []


def show(console: Console, found: Sequence[Found]) -> None:
    """Print decisions for people."""
    for each in found:
        decision = each.decision
        style = STYLES[decision.outcome]
        console.print(f"[bold {style}]{decision.outcome}[/]  {_time(decision.ts_ms)}  {_reason(decision)}")
        for chosen in decision.chosen:
            scores = chosen.scores
            final = "" if scores is None else f"  final {scores.final:.4g}"
            console.print(f"  {'item' if decision.outcome == 'sent' else 'best candidate'} {chosen.item}{final}")
        console.print(_steps(decision.steps))
        waited = ", ".join(f"{place} {ms:.0f} ms" for place, ms in decision.waited_ms.items())
        versions = decision.versions
        console.print(
            f"  [dim]model {versions.model}, features {versions.features}, policy {versions.policy}; waited: {waited}; "
            f"offset {each.offset}[/]\n"
        )


def _reason(decision: Decision) -> str:
    if decision.outcome == "sent":
        return f"{len(decision.chosen)} candidate{'s' if len(decision.chosen) != 1 else ''}"
    step = next((step for step in reversed(decision.steps) if not step.passed), None)
    if step is None:
        return ""
    again = f" Tried again {_time(decision.retry_ms)}." if decision.retry_ms is not None else ""
    return f"{MEANING.get(step.rule, step.rule)}.{again}"


def _steps(steps: Sequence[Step]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for name in ("", "stage", "rule", "value", "threshold"):
        table.add_column(name, justify="right" if name in {"value", "threshold"} else "left")
    for step in steps:
        table.add_row(
            "  [green]✓[/]" if step.passed else "  [red]✗[/]",
            step.stage,
            step.rule,
            readable(step.rule, step.value),
            readable(step.rule, step.threshold),
        )
    return table


def readable(rule: str, value: float | str | None) -> str:
    """A rule's number in the unit people think in."""
    if value is None:
        return "never"
    if isinstance(value, str):
        return value
    if rule in TIMES:
        return _time(round(value)) if value else "never"
    if rule in SECONDS:
        return str(timedelta(seconds=round(value)))
    if rule in MINUTES:
        return f"{int(value) // 60:02d}:{int(value) % 60:02d}"
    return f"{value:.4g}"


def _time(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
