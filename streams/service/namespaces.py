"""Which namespace is in force for an installation, and which runs were built beside it.

An installation is what KAIROS_NAMESPACE names. Its rows lie in a namespace: at first the one of the same name, after
`kairos promote RUN` the run's. Two words of one hash say which: `live` is folded into by stream workers, `serving`
is read by model workers and by people who ask; they differ only while a promotion is under way. `previous` is the way
back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, NamedTuple, cast

import orjson

from schemas.keys import Keys
from streams.service.redis import Client


class InForce(NamedTuple):
    """The namespaces of an installation by their part; `previous` is empty before the first promotion."""

    live: str
    serving: str
    previous: str = ""


async def in_force(client: Client, installation: str) -> InForce:
    """What is in force now."""
    stored = await cast("Awaitable[dict[bytes, bytes]]", client.hgetall(Keys.installation(installation).decode()))
    words = {name.decode(): value.decode() for name, value in stored.items()}
    return InForce(words.get("live", installation), words.get("serving", installation), words.get("previous", ""))


async def runs(client: Client, installation: str) -> dict[str, dict[str, Any]]:
    """What was registered of every run, by the name of its namespace."""
    stored = await cast("Awaitable[dict[bytes, bytes]]", client.hgetall(Keys.runs(installation).decode()))
    return {name.decode(): orjson.loads(about) for name, about in stored.items()}


async def register(client: Client, installation: str, run: str, about: Mapping[str, object]) -> bool:
    """Write down a run unless there is one of the name; whether it is new."""
    key, told = Keys.runs(installation).decode(), orjson.dumps(dict(about)).decode()
    return bool(await client.hsetnx(key, run, told))


async def amend(client: Client, installation: str, run: str, about: Mapping[str, object]) -> None:
    """Write down of a run what is known of it now, in place of what was."""
    key, told = Keys.runs(installation).decode(), orjson.dumps(dict(about)).decode()
    await client.hset(Keys.installation(run).decode(), "beside", installation)
    await client.hset(key, run, told)


async def beside(client: Client, namespace: str) -> str:
    """The installation that a namespace was built beside as a run; empty for one that is no run."""
    stored = await client.hget(Keys.installation(namespace).decode(), "beside")
    return stored.decode() if isinstance(stored, bytes) else ""
