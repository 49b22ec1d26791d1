"""Which namespace is in force for an installation, and which runs were built beside it.

An installation is what KAIROS_NAMESPACE names. Its rows lie in a namespace: at first the one of the same name, after
`kairos promote RUN` the run's. Two words of one hash say which: `live` is folded into by stream workers, `serving`
is read by model workers and by people who ask; they differ only while a promotion is under way. `previous` is the way
back. Whoever changes the hash says what it believes to be there: a promotion is a chain of such steps, so that one
that was killed goes on from where it was, and two at a time cannot mix.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, NamedTuple, cast

import orjson

from schemas.keys import Keys
from streams.service.redis import Client

# KEYS: the hash.  ARGV: count of fields expected, (field, value or '') of each, then (field, value or '') to write.
MOVE = """
local expected = tonumber(ARGV[1])
for i = 2, 2 * expected, 2 do
  if (redis.call('HGET', KEYS[1], ARGV[i]) or '') ~= ARGV[i + 1] then return 0 end
end
for i = 2 * expected + 2, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[1], ARGV[i])
  else redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
return 1
"""


class InForce(NamedTuple):
    """The namespaces of an installation by their part; `previous` is empty before the first promotion.

    `logs` are the namespaces that served before and whose push logs count beside that of `serving`. `origin`, `target`
    and `step` say how far a promotion is, and are empty where none is under way.
    """

    live: str
    serving: str
    previous: str = ""
    logs: tuple[str, ...] = ()
    origin: str = ""
    target: str = ""
    step: str = ""


async def in_force(client: Client, installation: str) -> InForce:
    """What is in force now."""
    return read(installation, await cast("Awaitable[dict[bytes, bytes]]", client.hgetall(_pointer(installation))))


def read(installation: str, stored: Mapping[bytes, bytes]) -> InForce:
    """What the hash says; before the first promotion there is none."""
    words = {name.decode(): value.decode() for name, value in stored.items()}
    return InForce(
        live=words.get("live", installation),
        serving=words.get("serving", installation),
        previous=words.get("previous", ""),
        logs=tuple(words["logs"].split()) if "logs" in words else (),
        origin=words.get("origin", ""),
        target=words.get("target", ""),
        step=words.get("step", ""),
    )


async def move(client: Client, installation: str, expected: InForce, wanted: InForce) -> bool:
    """Write what is wanted in one step, unless something else than expected is there now; whether it was written."""
    before, after = _words(installation, expected), _words(installation, wanted)
    seen = [word for pair in before.items() for word in pair]
    told = [word for pair in after.items() for word in pair]
    call = client.eval(MOVE, 1, _pointer(installation), str(len(before)), *seen, *told)
    return bool(await cast("Awaitable[int]", call))


def _words(installation: str, force: InForce) -> dict[str, str]:
    words = {name: " ".join(value) if name == "logs" else str(value) for name, value in force._asdict().items()}
    # An installation's own name is what an absent field means.
    return words | {name: "" for name in ("live", "serving") if words[name] == installation}


def _pointer(installation: str) -> str:
    return Keys.installation(installation).decode()


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


async def schema_of(client: Client, keys: Keys) -> int | None:
    """Schema number of the rows in a namespace, None where it holds none yet or is not initialised."""
    item_partitions = await _count(client, keys.item_tag(0))
    for partition in range(item_partitions):
        found = await client.execute_command("HRANDFIELD", keys.item_rows(keys.item_tag(partition)), 1, "WITHVALUES")
        if found:
            pair = found[0] if isinstance(found[0], list) else found  # by the version of the protocol
            return int.from_bytes(pair[1][:4], "little")
    return None


async def _count(client: Client, tag: bytes) -> int:
    return int(await cast("Awaitable[bytes | None]", client.hget(Keys.meta(tag).decode(), "n")) or 0)


async def run_waited_for(client: Client, installation: str, namespace: str, schema: int) -> str:
    """The run that a process of this schema waits for, where the namespace in force holds rows of another; else empty.

    Without such a run the process goes on and is refused by the rows themselves.
    """
    there = await schema_of(client, Keys(namespace))
    if there in (None, schema):
        return ""
    known = await runs(client, installation)
    return next((run for run, about in known.items() if about.get("schema") == schema and run != namespace), "")
