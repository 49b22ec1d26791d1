"""`kairos promote`: its arguments, its plan, its steps as they are taken."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from typing import Any

from aiokafka.errors import KafkaError
from rich.markup import escape

from streams.operations.catching_up import SOON
from streams.operations.promote import MOVING, QUEUES, SWEEPING, NotYetError, Promotion
from streams.operations.promote_plan import Plan, Refusal, chosen, plan
from streams.replay.ranges import ReplayError
from streams.service import logs, namespaces, settings
from streams.service.outbox import OutboxError
from streams.service.redis import Client, connect
from streams.service.trouble import TROUBLE
from streams.service.verb import BAD, GOOD, Telling, parser
from streams.settings import FoldSettings
from streams.tables.errors import TableError

CATCHES_UP_PER_S = 20_000
"""Records that one process applies a second at the least, for the estimate of the plan."""
WORDS = {
    "catching up": "catching up",
    "beginning": "stream workers are told",
    MOVING: "stream workers move",
    QUEUES: "queued users move",
    SWEEPING: "model workers are told, the last ones are swept up",
}


def verb(argv: list[str]) -> int:
    """`kairos promote RUN`, `kairos promote --undo`: 0 when it is in force (or would be), 1 when a step did not end."""
    asked = parser("promote", "Bring a run into force in the place of the live namespace.", FoldSettings, acts=True)
    asked.add_argument("run", metavar="RUN", nargs="?", help="the namespace to bring into force")
    asked.add_argument("--undo", action="store_true", help="go back to the namespace that was in force before")
    arguments = asked.parse_args(argv)
    if bool(arguments.run) == arguments.undo:
        asked.error("name the RUN to bring into force, or --undo")
    read = settings.read(FoldSettings, os.environ)
    logs.setup(read.shell.log, "error")
    return asyncio.run(_promote(read, arguments, Telling(as_json=arguments.json)))


async def _promote(read: FoldSettings, asked: Any, telling: Telling) -> int:
    client = connect(read.connections)
    try:
        force = await namespaces.in_force(client, read.connections.namespace)
        planned = await plan(client, read, chosen(force, asked.run, undo=asked.undo))
        if planned.in_force:
            telling.facts(plan=planned.facts, executed=False)
            telling.page(f"{planned.target} is in force already.")
            return telling.end(GOOD)
        telling.plan(planned.facts, page(planned), execute=asked.execute)
        if asked.execute:
            await _execute(client, read, planned, telling)
        return telling.end(GOOD)
    except NotYetError as error:
        telling.complain(str(error))
        return telling.end(BAD)
    except Refusal as refusal:
        telling.complain(str(refusal))
        return telling.end(refusal.exit_code)
    except (ReplayError, TableError, OutboxError) as error:
        telling.complain(f"{error} Nothing has moved.")
        return telling.end(Refusal.exit_code)
    except KafkaError as error:
        telling.complain(f"Kafka at {read.connections.kafka} does not answer ({error!r}): set KAIROS_KAFKA.")
    except TROUBLE as error:
        telling.complain(f"Redis does not answer ({error}): set KAIROS_REDIS; what was done stays done.")
    finally:
        await client.aclose()
    return telling.end(BAD)


async def _execute(client: Client, read: FoldSettings, planned: Plan, telling: Telling) -> None:
    started_s = time.monotonic()
    with telling.progress("catching up", max(planned.lag, 1)) as bar:
        heard = set[str]()

        def hear(step: str, left: int | None = None) -> None:
            if step not in heard:
                heard.add(step)
                telling.page(f"[dim]{time.monotonic() - started_s:5.1f} s[/]  {WORDS[step]}")
            if left is not None:
                bar.at(max(planned.lag - left, 0))

        promotion = Promotion(client, read, planned, hear)
        force = await promotion.run()
    whole_s = time.monotonic() - started_s
    telling.facts(seconds=promotion.seconds, took_s=round(whole_s, 3), in_force=force._asdict())
    telling.page(f"[green]✓[/] {force.serving} is in force after {whole_s:.1f} s; `kairos promote --undo` goes back")


def page(planned: Plan) -> str:
    """The plan for people."""
    force, target = planned.force, planned.target
    if force.step:
        lines = [f"The promotion of {force.target} in the place of {force.origin} is under way ({force.step})."]
        lines.append(f"  it goes on to the end: {target} will be in force")
    else:
        lines = [f"[bold]{target}[/] comes into force in the place of [bold]{force.live}[/]:"]
        lines.append(f"  built    {_built(planned)}")
        if planned.run.get("ranges") and not planned.run.get("whole"):
            lines.append(
                "  [yellow]![/]        not from all that the live rows were built from: some of it will be gone"
            )
        lines.append(f"  lag      {planned.lag:,} records{_catching_up(planned)}")
    lines += [f"  {'worker ' if not at else '       '}  {escape(m.words)}" for at, m in enumerate(planned.members)]
    if not planned.members:
        lines.append("  worker   none runs: the rows move, and nobody applies what comes until one is started")
    return "\n".join(lines)


def _built(planned: Plan) -> str:
    if planned.target in planned.force.logs:
        return "it was in force before"
    if not planned.run:
        return "by workers of its own (no run of this name is registered)"
    created_ms = planned.run.get("created_ms")
    when = f", {datetime.fromtimestamp(created_ms / 1000, UTC):%Y-%m-%d %H:%M UTC}" if created_ms else ""
    return f"by kairos replay, mode {planned.run.get('mode', 'unknown')}{when}"


def _catching_up(planned: Plan) -> str:
    if planned.lag <= SOON:
        return ": its workers apply them in about a second"
    return f": applied here first, about {planned.lag / CATCHES_UP_PER_S:,.0f} s; live work goes on meanwhile"
