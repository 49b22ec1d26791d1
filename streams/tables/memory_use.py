"""What the tables cost in memory, by part: keys counted and sampled, their sizes told by the server (MEMORY USAGE).

On one server keys are counted by a sample of the key space, on a Cluster slot by slot, because there SCAN goes slot by
slot and a part of it is no sample. Nothing here writes, and every call is bounded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.asyncio.cluster import RedisCluster

from schemas.keys import Keys
from streams.service.redis import Client

SCANNED = 20_000
"""Keys of one server that are looked at; below that many the counts are exact."""

SAMPLED = 500
"""Keys of a part whose size is asked for."""

NESTED = 50
"""Members of one large key that the server weighs for its size."""

EACH, WHOLE = {"rows": b"u", "push logs": b"p"}, {
    "queue": b"q", "leases": b"l", "fences": b"m", "item rows": b"r", "catalogue": b"c", "touched items": b"t",
}  # fmt: skip
"""Parts with a key for every user, and parts with one key a partition."""

_COUNTS = {b"q": "zcard", b"l": "zcard", b"m": "hlen", b"r": "hlen", b"c": "hlen", b"t": "xlen"}


@dataclass(frozen=True)
class PartUse:
    """One part of the tables: keys, their members (of user rows, one each), bytes; `payload_bytes` is the values'.

    `exact`: the keys were counted; else their number is an estimate from a sample. `weighed`: keys that were weighed.
    """

    name: str
    keys: int
    members: int
    n_bytes: int
    payload_bytes: int
    weighed: int
    exact: bool

    @property
    def bytes_each(self) -> float:
        """Bytes a member."""
        return self.n_bytes / self.members if self.members else 0.0


@dataclass(frozen=True)
class MemoryUse:
    """The parts of one namespace, and what the servers hold beside them: other keys, and bytes that no key has."""

    parts: Sequence[PartUse]
    all_keys: int
    used_bytes: int
    start_bytes: int

    def part(self, name: str) -> PartUse | None:
        """A part by its name, None where there is no key of it."""
        return next((part for part in self.parts if part.name == name), None)

    @property
    def n_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.n_bytes for part in self.parts)

    @property
    def keys(self) -> int:
        """Keys of all parts."""
        return sum(part.keys for part in self.parts)


class _Counted(NamedTuple):
    """Keys by their letter, as counted or estimated, and some of each to weigh."""

    counts: Mapping[bytes, int]
    samples: Mapping[bytes, Sequence[bytes]]
    exact: bool


async def memory_use(client: Client, keys: Keys, user_partitions: int, item_partitions: int) -> MemoryUse:
    """Weigh a namespace's tables. Raises what Redis raises, a ResponseError where MEMORY USAGE is not allowed."""
    user_tags = [keys.user_tag(p) for p in range(user_partitions)]
    item_tags = [keys.item_tag(p) for p in range(item_partitions)]
    cluster = isinstance(client, RedisCluster)
    everywhere: dict[str, Any] = {"target_nodes": RedisCluster.PRIMARIES} if cluster else {}
    answer: Any = await client.dbsize(**everywhere)
    all_keys = sum(answer.values()) if isinstance(answer, dict) else int(answer)
    counted = await (_by_slot(client, user_tags) if cluster else _by_scan(client, user_tags, all_keys))
    parts = [await _each(client, name, letter, counted) for name, letter in EACH.items()]
    parts += [await _whole(client, name, letter, [*user_tags, *item_tags]) for name, letter in WHOLE.items()]
    info: Any = await client.info("memory", **everywhere)
    infos = info.values() if cluster else [info]
    used, start = (sum(int(i.get(name, 0)) for i in infos) for name in ("used_memory", "used_memory_startup"))
    return MemoryUse([part for part in parts if part.keys], all_keys, used, start)


async def _by_scan(client: Any, tags: Sequence[bytes], all_keys: int) -> _Counted:
    """SCAN goes through the key space in the order of hashes: its beginning is a fair sample."""
    ours, cursor, seen = set(tags), 0, 0
    found: dict[bytes, list[bytes]] = defaultdict(list)
    while True:
        cursor, batch = await client.scan(cursor, count=1_000)
        seen += len(batch)
        for key in batch:
            tag, _, rest = key.partition(b"}:")
            if tag + b"}" in ours:
                found[rest[:1]].append(key)
        if cursor == 0 or seen >= SCANNED:
            break
    exact = cursor == 0
    scale = 1.0 if exact else all_keys / seen
    return _Counted({letter: round(len(keys) * scale) for letter, keys in found.items()}, found, exact)


async def _by_slot(client: Any, tags: Sequence[bytes]) -> _Counted:
    """All keys of a tag lie in one slot; another tag's may lie there too."""
    counts: dict[bytes, float] = defaultdict(float)
    samples: dict[bytes, list[bytes]] = defaultdict(list)
    exact = True
    for tag in tags:
        slot = client.keyslot(Keys.meta(tag))
        total = await client.cluster_countkeysinslot(slot)
        texts = await client.cluster_get_keys_in_slot(slot, max(SAMPLED, SCANNED // len(tags)))
        batch = [key.encode() for key in texts]  # redis-py gives texts, whatever the client speaks
        exact &= len(batch) >= total
        for key in batch:
            if key.startswith(tag + b":"):
                letter = key[len(tag) + 1 : len(tag) + 2]
                samples[letter].append(key)
                counts[letter] += max(1.0, total / len(batch))
    return _Counted({letter: round(n) for letter, n in counts.items()}, samples, exact)


async def _each(client: Client, name: str, letter: bytes, counted: _Counted) -> PartUse:
    count, found = counted.counts.get(letter, 0), counted.samples.get(letter, ())
    picked = found[:: max(1, len(found) // SAMPLED)][:SAMPLED]
    pipe: Any = client.pipeline(transaction=False)
    for key in picked:
        pipe.memory_usage(key)
        pipe.strlen(key)
    replies = await pipe.execute() if picked else []
    # A key may be gone by the time that it is weighed: its size is None.
    pairs = [(n_bytes, length) for n_bytes, length in zip(replies[::2], replies[1::2], strict=True) if n_bytes]
    mean = sum(n_bytes for n_bytes, _ in pairs) / max(len(pairs), 1)
    payload = sum(length for _, length in pairs) / max(len(pairs), 1)
    return PartUse(name, count, count, round(mean * count), round(payload * count), len(pairs), counted.exact)


async def _whole(client: Client, name: str, letter: bytes, tags: Sequence[bytes]) -> PartUse:
    pipe: Any = client.pipeline(transaction=False)
    for tag in tags:
        key = tag + b":" + letter
        pipe.memory_usage(key, samples=NESTED)
        getattr(pipe, _COUNTS[letter])(key)
    replies = await pipe.execute() if tags else []
    pairs = [(n_bytes, n) for n_bytes, n in zip(replies[::2], replies[1::2], strict=True) if n_bytes]
    n_bytes, members = sum(n_bytes for n_bytes, _ in pairs), sum(n for _, n in pairs)
    return PartUse(name, len(pairs), members, n_bytes, n_bytes, len(pairs), exact=True)
