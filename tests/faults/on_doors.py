"""Faults of who may come in: passwords that are changed, and a right that is taken away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from random import Random

from tests.faults import rights
from tests.faults.fault import EXIT_AGAIN, EXIT_REFUSED, EXIT_STUCK, FaultError, Layout, fault
from tests.faults.security import Doors, may_encrypt
from tests.faults.servers import client
from tests.faults.stage import Stage, until

SINGLE = frozenset({Layout.SINGLE})
TOLD_WITHIN_S = 40.0


@fault("kafka", lasts_s=(1, 5), layouts=SINGLE, needs=("doors",), exits=(EXIT_STUCK, EXIT_AGAIN), available=may_encrypt)
async def kafka_passwords_changed(stage: Stage, random: Random) -> AsyncIterator[None]:
    """The passwords at the broker are changed and every connection ends: nobody gets in until they are changed back."""
    (broker,) = stage.servers.brokers
    doors = _doors(stage)
    await _change(stage, dict.fromkeys(doors.passwords, "another"))
    await asyncio.to_thread(broker.stop)
    await asyncio.to_thread(broker.start)
    await _told(stage, "KAIROS_KAFKA_PASSWORD")
    yield
    await _change(stage, doors.passwords)


@fault(
    "redis", lasts_s=(1, 5), layouts=SINGLE, needs=("doors",), exits=(EXIT_AGAIN, EXIT_REFUSED), available=may_encrypt
)
async def redis_passwords_changed(stage: Stage, random: Random) -> AsyncIterator[None]:
    """The passwords at Valkey are changed and every connection ends: nobody gets in until they are changed back."""
    doors = _doors(stage)
    for user in doors.passwords:
        _set_user(stage, user, "resetpass", ">another")
    await _told(stage, "KAIROS_REDIS_PASSWORD")
    yield
    for user, password in doors.passwords.items():
        _set_user(stage, user, "resetpass", f">{password}")


@fault(
    "redis", lasts_s=(1, 5), layouts=SINGLE, needs=("doors",), exits=(EXIT_AGAIN, EXIT_REFUSED), available=may_encrypt
)
async def redis_right_taken(stage: Stage, random: Random) -> AsyncIterator[None]:
    """The users at Valkey may run no script any more, until they may again."""
    for user in _doors(stage).passwords:
        _set_user(stage, user, "-evalsha", "-eval")
    await _told(stage, "the user's rights there")
    yield
    for user in _doors(stage).passwords:
        _set_user(stage, user, "+evalsha", "+eval")


def _doors(stage: Stage) -> Doors:
    if stage.servers.doors is None:
        message = "this stage has no doors"
        raise FaultError(message)
    return stage.servers.doors


async def _change(stage: Stage, passwords: Mapping[str, str]) -> None:
    async with stage.admin() as admin:
        await rights.set_passwords(admin, passwords)


def _set_user(stage: Stage, user: str, *words: str) -> None:
    with client(stage.servers.primary()) as server:
        server.execute_command("ACL", "SETUSER", user, *words)
        server.execute_command("CLIENT", "KILL", "USER", user)


async def _told(stage: Stage, remedy: str) -> None:
    """Wait until a process has said what to look at."""
    before = {process.name: _text(process.logs()).count(remedy) for process in stage.processes}

    async def said_so() -> bool:
        return any(_text(process.logs()).count(remedy) > before.get(process.name, 0) for process in stage.processes)

    await until(said_so, TOLD_WITHIN_S, f"a word of {remedy}")


def _text(logs: object) -> str:
    return "".join(path.read_text(errors="replace") for path in logs)  # type: ignore[attr-defined]
