"""The servers that keep the rows: version, policy, persistence, memory by part, and the clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from schemas.keys import Keys
from streams.service.clock import MOST_APART_MS
from streams.service.findings import Finding, Section
from streams.service.redis import Client, eviction
from streams.service.redis_facts import ServerFacts, clock_ahead_ms, server_facts
from streams.service.spans import size, span
from streams.tables.memory_use import MemoryUse, memory_use

OLDEST_RELEASE = (6, 2)
NOTED_CLOCK_MS = 1_000
FULL, NEARLY_FULL = 0.95, 0.8
FRAGMENTED = 1.5
SMALL_BYTES = 64 << 20
"""Below this a server's fragmentation says nothing."""


async def look_at_redis(client: Client) -> Section:
    """Servers and clock."""
    section = Section("redis")
    servers = await server_facts(client)
    ahead_ms = await clock_ahead_ms(client)
    section.facts = {"servers": [vars(server) for server in servers], "clock_ahead_ms": round(ahead_ms, 1)}
    for server in servers:
        section.findings += judge_server(server)
    section.findings.append(judge_clock(ahead_ms))
    return section


async def look_at_memory(client: Client, keys: Keys, user_partitions: int, item_partitions: int) -> Section:
    """Memory by part of the tables."""
    section = Section("memory")
    use = await memory_use(client, keys, user_partitions, item_partitions)
    section.facts = memory_facts(use)
    section.findings += [Finding("green", line) for line in memory_lines(use)]
    return section


def judge_server(server: ServerFacts) -> Iterator[Finding]:
    """What of one server is well, and what is not."""
    where = f"{server.software} {server.version} at {server.name}"
    limit = size(server.max_bytes) if server.max_bytes else "no limit"
    yield Finding(
        "green",
        f"{where}, up for {span(server.uptime_s * 1000)}: {size(server.used_bytes)} used of {limit}, "
        f"{server.allocator or 'allocator unknown'}, {server.replicas} replicas",
    )
    if server.software == "Redis" and server.release < OLDEST_RELEASE:
        yield Finding("red", f"{where} is older than 6.2.", "Upgrade to Redis 6.2 or any Valkey.")
    if server.policy is None:
        yield Finding("yellow", "The memory policy is not told.", "See that it is noeviction where it is configured.")
    elif sentence := eviction({server.name: server.policy}):
        what, _, remedy = sentence.partition(": ")
        yield Finding("red", f"{what}.", f"{remedy[:1].upper()}{remedy[1:]}")
    if server.evicted_keys:
        yield Finding(
            "red",
            f"{server.evicted_keys:,} keys were evicted since the server started: rows or fences are missing.",
            "Set maxmemory-policy noeviction, and rebuild the tables in a namespace of their own.",
        )
    if server.loading:
        yield Finding("yellow", "The server still loads its data.", "Wait until it has; workers wait too.")
    yield from _judge_room(server)
    yield from _judge_persistence(server)


def _judge_room(server: ServerFacts) -> Iterator[Finding]:
    if not server.max_bytes:
        yield Finding(
            "yellow",
            "There is no maxmemory: a table that grows is ended by the system, not refused by the server.",
            "Set maxmemory to about 80 % of the machine's memory (`kairos capacity` says how many users that holds).",
        )
        return
    share = server.used_bytes / server.max_bytes
    if share > NEARLY_FULL:
        yield Finding(
            "red" if share > FULL else "yellow",
            f"{share:.0%} of maxmemory are used; when it is full every write is refused and the workers stand still.",
            "Give the server more memory, or spread the tables over a Cluster.",
        )
    if server.fragmentation > FRAGMENTED and server.used_bytes > SMALL_BYTES:
        yield Finding(
            "yellow",
            f"The server occupies {server.fragmentation:.1f} times what it uses.",
            "Turn `activedefrag yes` on, or restart it when it is quiet.",
        )


def _judge_persistence(server: ServerFacts) -> Iterator[Finding]:
    if server.write_failed:
        yield Finding(
            "red",
            f"Writing {server.write_failed} failed.",
            "Look at the server's disk and log: while this lasts it refuses writes or would lose them.",
        )
    if server.append_only:
        every = {"everysec": "each second", "always": "at each write", "no": "when the system likes"}
        told = every.get(server.fsync or "", "as configured")
        yield Finding("green", f"append-only file, written through {told}")
        if server.fsync == "no":
            yield Finding("yellow", "A crash of the machine may cost minutes of rows.", "Set `appendfsync everysec`.")
    elif server.snapshots:
        yield Finding(
            "yellow",
            "Only snapshots are kept: after a crash the tables go back to the last one and are read again from there.",
            "Set `appendonly yes`, and keep the topics' retention longer than the time between snapshots.",
        )
    elif server.snapshots is False or server.replicas == 0:
        yield Finding(
            "yellow" if server.replicas or server.snapshots is None else "red",
            "Nothing is written to disk: a restart of the server loses every row, push log and fence.",
            "Set `appendonly yes` (appendfsync everysec); Redis is the record of Kairos.",
        )


def judge_clock(ahead_ms: float) -> Finding:
    """Whether this machine and Redis agree about the time."""
    words = f"This machine's clock is {abs(ahead_ms):,.0f} ms {'ahead of' if ahead_ms >= 0 else 'behind'} that of Redis"
    if abs(ahead_ms) > MOST_APART_MS:
        return Finding("red", f"{words}: workers on this machine do not start.", "Set the wrong one right, by NTP.")
    if abs(ahead_ms) > NOTED_CLOCK_MS:
        return Finding("yellow", f"{words}: deadlines and leases are off by as much.", "Let both follow NTP.")
    return Finding("green", words)


def memory_facts(use: MemoryUse) -> dict[str, object]:
    """Memory as plain values."""
    return {
        "parts": [{**vars(part), "bytes_each": round(part.bytes_each, 1)} for part in use.parts],
        "keys_of_the_server": use.all_keys,
        "used_bytes": use.used_bytes,
        "start_bytes": use.start_bytes,
    }


def memory_lines(use: MemoryUse) -> Sequence[str]:
    """A line for each part."""
    if not use.parts:
        return ["nothing is kept yet"]
    lines = [
        f"{part.name}: {'' if part.exact else 'about '}{part.members:,}, {part.bytes_each:,.0f} bytes each, "
        f"{size(part.n_bytes)} in all"
        for part in use.parts
    ]
    return [
        *lines,
        f"together {size(use.n_bytes)}; the server uses {size(use.used_bytes)} for {use.all_keys:,} keys",
    ]
