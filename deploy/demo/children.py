"""Kairos' own services as child processes of the demo and of the tests, watched through their /ready."""

from __future__ import annotations

import asyncio
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import deploy
from deploy.stack import ports
from deploy.stack.child import Child
from deploy.stack.errors import StackError

SOURCES = Path(deploy.__file__).resolve().parents[1]


class Service:
    """One `kairos COMMAND` in a process of its own; `stop` ends it by its handle."""

    def __init__(self, child: Child, address: str) -> None:
        self.child, self.address = child, address

    @classmethod
    def start(cls, name: str, command: Sequence[str], *, folder: Path, env: Mapping[str, str]) -> Self:
        """Start `kairos COMMAND…` with its output in folder/name.log."""
        address = f"127.0.0.1:{ports.free_port()}"
        child = start(name, command, folder=folder, env={**env, "KAIROS_HTTP": address})
        return cls(child, address)

    def wait_ready(self, timeout_s: float = 60.0) -> Self:
        """Block until /ready says yes; a StackError shows the end of the log when it does not."""
        self.child.wait_ready(self.ready, timeout_s)
        return self

    def ready(self) -> bool:
        """Whether the service says that it lacks nothing."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def must_run(self) -> None:
        """Raise a StackError with the end of the log when the service has ended."""
        if not self.child.alive:
            msg = f"{self.child.name} has ended; its log {self.child.log} closes with:\n{self.child.tail()}"
            raise StackError(msg)

    def stop(self) -> None:
        """Ask the service to end, and wait for it."""
        self.child.stop()


def start(name: str, command: Sequence[str], *, folder: Path, env: Mapping[str, str]) -> Child:
    """Start a `kairos COMMAND…` that ends by itself, its output in folder/name.log."""
    folder.mkdir(parents=True, exist_ok=True)
    return Child.start(
        f"kairos {' '.join(command)}",
        [sys.executable, "-m", "deploy.cli", *command],
        folder=folder,
        log=folder / f"{name}.log",
        env=environment(env),
    )


async def complete(
    name: str, command: Sequence[str], *, folder: Path, env: Mapping[str, str], timeout_s: float = 60
) -> str:
    """Run a `kairos COMMAND…` to its end and return its output; a StackError shows it when the command fails.

    The command is killed when this is cancelled.
    """
    child = start(name, command, folder=folder, env=env)
    try:
        status = await asyncio.to_thread(child.finish, timeout_s)
    except asyncio.CancelledError:
        child.kill()
        raise
    if status != 0:
        msg = f"kairos {' '.join(command)} ended with {status}; its log {child.log} closes with:\n{child.tail()}"
        raise StackError(msg)
    return child.log.read_text("utf-8", errors="replace")


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """Variables of a child: `env`, with our sources importable also where Kairos was never installed."""
    path = os.pathsep.join(part for part in (str(SOURCES), os.environ.get("PYTHONPATH", "")) if part)
    return {**env, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
