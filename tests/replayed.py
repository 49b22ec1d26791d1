"""A live installation to replay, its rows by namespace, and `kairos replay` as a process that can be killed."""

from __future__ import annotations

import asyncio
import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from schemas.keys import Keys
from tests.installation import ROOT, Installation, Sent, events

EVENTS = 4000


async def lived(made: Installation, n: int = EVENTS) -> Installation:
    """Topics with events of all kinds, a catalogue and what is no event, applied by a live worker."""
    await made.set_up()
    items = [
        Sent(made.topics.items, f"i{number}".encode(), orjson.dumps({"item_id": f"i{number}", "title": "one"}))
        for number in range(40)
    ]
    await made.send([*events(made.topics, n), *items, Sent(made.topics.clicks, b"u1", b"no event")])
    made.worker()
    await made.applied()
    return made


def beside(installation: Installation, run: str) -> Installation:
    """The same installation seen through a run's namespace."""
    other = copy.copy(installation)
    other.topics, other.keys = type(installation.topics)(installation.topics.prefix, run), Keys(run)
    other.env = {**installation.env, "KAIROS_NAMESPACE": run}
    return other


async def rows(installation: Installation) -> dict[str, Any]:
    """Everything that must be equal: rows of users and items bit for bit, and the catalogue."""
    catalogue: dict[str, bytes] = {}
    async with installation.redis() as redis:
        for partition in range(installation.item_partitions):
            found = await redis.hgetall(Keys.catalogue(installation.keys.item_tag(partition)))
            catalogue |= {item.decode(): entry for item, entry in found.items()}
    return {
        "users": await installation._user_rows(),
        "items": await installation._item_rows(),
        "catalogue": catalogue,
    }


async def queued(installation: Installation) -> int:
    """Users in the queue of a namespace."""
    async with installation.redis() as redis:
        tags = [installation.keys.user_tag(p) for p in range(installation.partitions)]
        return sum([await redis.zcard(Keys.queue(tag)) for tag in tags])


async def kairos(installation: Installation, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return await asyncio.to_thread(installation.run, *command)


async def done(installation: Installation, *command: str) -> dict[str, Any]:
    """Run a command that must end well; what it told as JSON."""
    ended = await kairos(installation, *command, "--json")
    assert ended.returncode == 0, ended.stderr + ended.stdout
    told: dict[str, Any] = orjson.loads(ended.stdout)
    return told


class Killable:
    """A verb under way."""

    def __init__(self, installation: Installation, *command: str) -> None:
        self.installation = installation
        line = [sys.executable, "-m", "deploy.cli", *command]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(line, cwd=ROOT, env=installation.env, text=True, **pipes)  # type: ignore[call-overload]

    async def until_in_the_middle(self, run: str, least: int, most: int) -> int:
        """Wait until so many offsets are behind the fences of a run, but not all; how many."""
        seen, deadline_s = 0, time.monotonic() + 30
        while time.monotonic() < deadline_s:
            fences = await beside(self.installation, run).fences()
            seen = sum(fence + 1 for (topic, _), fence in fences.items() if "items" not in topic)
            if seen >= least:
                assert seen < most, "it was over before it was killed"
                return seen
            assert self.process.poll() is None, self.process.communicate()
            await asyncio.sleep(0.02)
        message = f"{seen} records within 30 s"
        raise AssertionError(message)

    def children(self) -> list[int]:
        """Process ids of its children."""
        found = []
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
        return found

    def kill_children(self) -> None:
        for child in self.children():
            os.kill(child, signal.SIGKILL)

    async def ended(self) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        out, err = await asyncio.to_thread(self.process.communicate, None, 30)
        return self.process.returncode, out, err
