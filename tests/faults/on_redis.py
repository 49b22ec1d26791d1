"""Faults of a Valkey that every layout has or that has no other to stand in for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from random import Random

import redis

from deploy.stack import Valkey
from tests.faults.fault import EXIT_AGAIN, ONE_VALKEY, FaultError, Layout, fault
from tests.faults.servers import client
from tests.faults.stage import Stage, until

SINGLE = frozenset({Layout.SINGLE})
AWAY_EXITS = (EXIT_AGAIN,)
STARTED_WITHIN_S = 60.0


@fault("redis", lasts_s=(0, 3), layouts=ONE_VALKEY, exits=AWAY_EXITS)
async def redis_killed(stage: Stage, random: Random) -> AsyncIterator[None]:
    """Valkey is killed (SIGKILL) and loads its log again."""
    valkey = stage.servers.primary()
    await asyncio.to_thread(valkey.kill)
    yield
    await asyncio.to_thread(valkey.start)


FENCE = b"\no:"
"""How the field of a fence begins in the file."""


@fault("redis", lasts_s=(0, 2), layouts=ONE_VALKEY, forgets=True, exits=AWAY_EXITS)
async def redis_tail_lost(stage: Stage, random: Random) -> AsyncIterator[None]:
    """The host of Valkey dies, and with it the last second of acknowledged writes, fences included (`everysec`)."""
    valkey = stage.servers.primary()
    log = _append_only_file(valkey)
    while True:
        size_bytes = log.stat().st_size
        await asyncio.sleep(1.0)
        with log.open("rb") as file:
            file.seek(size_bytes)
            written = file.read()
        if FENCE in written[len(written) // 4 :]:  # not only what a model worker wrote
            break
    await asyncio.to_thread(valkey.kill)
    with log.open("r+b") as file:
        file.truncate(size_bytes + random.randrange(max(1, len(written) // 4)))
    yield
    await asyncio.to_thread(valkey.start)


@fault("redis", lasts_s=(30, 30), layouts=ONE_VALKEY, exits=AWAY_EXITS)
async def redis_frozen(stage: Stage, random: Random) -> AsyncIterator[None]:
    """Valkey keeps its connections and answers nothing (SIGSTOP) for 30 s."""
    valkey = stage.servers.primary()
    valkey.pause()
    try:
        yield
    finally:
        valkey.resume()


@fault("redis", lasts_s=(5, 12), layouts=ONE_VALKEY, exits=AWAY_EXITS)
async def redis_full(stage: Stage, random: Random) -> AsyncIterator[None]:
    """Memory is full and nothing may be evicted: every write is refused."""
    with client(stage.servers.primary()) as server:
        server.config_set("maxmemory", "1mb")
        try:
            yield
        finally:
            server.config_set("maxmemory", "0")


@fault("redis", lasts_s=(3, 8), exits=AWAY_EXITS)
async def redis_connections_killed(stage: Stage, random: Random) -> AsyncIterator[None]:
    """Connections are closed by the server every 100 ms, in the middle of calls."""
    killing = asyncio.create_task(_kill_connections(stage.servers.valkeys))
    try:
        yield
    finally:
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)


async def _kill_connections(valkeys: list[Valkey]) -> None:
    while True:
        for valkey in valkeys:
            with suppress(redis.RedisError):
                await asyncio.to_thread(_kill_clients, valkey)
        await asyncio.sleep(0.1)


def _kill_clients(valkey: Valkey) -> None:
    with client(valkey) as server:
        server.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@fault("redis", lasts_s=(4, 8), layouts=ONE_VALKEY, exits=AWAY_EXITS)
async def redis_busy(stage: Stage, random: Random) -> AsyncIterator[None]:
    """Somebody's script runs for seconds: every other call is answered with BUSY."""
    valkey = stage.servers.primary()
    with client(valkey) as server:
        server.config_set("busy-reply-threshold", "100")
    running = threading.Thread(target=_loop_for_ever, args=(valkey,), daemon=True)
    running.start()
    try:
        yield
    finally:
        with client(valkey) as server:
            server.script_kill()
        await asyncio.to_thread(running.join, 10)
        with client(valkey) as server:
            server.config_set("busy-reply-threshold", "5000")


def _loop_for_ever(valkey: Valkey) -> None:
    with redis.Redis(port=valkey.port) as server, suppress(redis.RedisError):
        server.eval("while true do end", 0)


@fault("redis", lasts_s=(2, 5))
async def redis_scripts_flushed(stage: Stage, random: Random) -> AsyncIterator[None]:
    """The server forgets every script, again and again."""
    flushing = asyncio.create_task(_flush_scripts(stage.servers.valkeys))
    try:
        yield
    finally:
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)


async def _flush_scripts(valkeys: list[Valkey]) -> None:
    while True:
        for valkey in valkeys:
            with suppress(redis.RedisError), client(valkey) as server:
                server.script_flush()
        await asyncio.sleep(0.3)


@fault("redis", layouts=SINGLE, exits=AWAY_EXITS)
async def redis_loading(stage: Stage, random: Random) -> AsyncIterator[None]:
    """Valkey starts again from a snapshot that takes a while: every call is answered with LOADING."""
    valkey = stage.servers.primary()
    with client(valkey) as server:
        server.mset(FILLER)
        server.bgrewriteaof()

    async def rewritten() -> bool:
        with client(valkey) as server:
            return not dict(server.info("persistence"))["aof_rewrite_in_progress"]

    await until(rewritten, 30, "the end of the rewriting of the log")
    await asyncio.to_thread(valkey.kill)
    await asyncio.to_thread(valkey.start)
    with client(valkey) as server:
        server.unlink(*FILLER)
        stats = {name: dict(stat) for name, stat in server.info("commandstats").items()}
    # PING is what the start waits with; what else was refused meanwhile, the services had asked.
    if not any(stat["rejected_calls"] for name, stat in stats.items() if name != "cmdstat_ping"):
        message = "no call of a service was answered with LOADING"
        raise FaultError(message)
    yield


FILLER = {f"filler:{number}": "" for number in range(6_000)}
"""Keys that take three seconds to load: longer than a service waits between two tries."""


@fault("redis", lasts_s=(5, 10), layouts=SINGLE, needs=("proxy",), exits=AWAY_EXITS)
async def redis_replies_lost(stage: Stage, random: Random) -> AsyncIterator[None]:
    """One exchange in thirty is cut: the request by half, or the reply after the call was executed."""
    proxy = stage.servers.proxy
    if proxy is None:
        message = "there is no proxy before Valkey"
        raise FaultError(message)

    async def both_happened() -> bool:
        return proxy.lost > 0 and proxy.halved > 0

    proxy.trouble = 1 / 30
    yield
    try:
        # Longer than planned where the services had ended for another fault and begin again only now.
        await until(both_happened, STARTED_WITHIN_S, "a reply and a request that were cut")
    finally:
        proxy.trouble = 0.0


def _append_only_file(valkey: Valkey) -> Path:
    """The file that writes are appended to now."""
    files = sorted((valkey.folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
    return files[-1]
