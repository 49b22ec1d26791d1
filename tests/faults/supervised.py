"""Processes of Kairos that are started again whenever they end, as an init system would, and how each one ended."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.stack.child import Child

ROOT = Path(__file__).parents[2]
CLOCK = Path(__file__).parent / "clock"
RESTART_S, LONGEST_RESTART_S = 0.5, 4.0


@dataclass(frozen=True)
class Exit:
    """The end of one process: its code, the last thing of weight that it said, whether it was our doing."""

    process: str
    at_s: float
    code: int
    said: str
    ours: bool


@dataclass
class Supervised:
    """One `kairos` service under supervision; `env` is asked anew at every start."""

    name: str
    command: str
    env: Callable[[], Mapping[str, str]]
    folder: Path
    exits: list[Exit] = field(default_factory=list)
    started_s: float = 0.0
    paused: bool = False
    _child: Child | None = None
    _starts: int = 0
    _ours: bool = False
    _wanted: bool = True

    @property
    def clock(self) -> Path:
        """The file that shifts this process's clock, in seconds."""
        return self.folder / f"{self.name}.clock"

    @property
    def wanted(self) -> bool:
        """Whether it is meant to run; False once it was told to leave."""
        return self._wanted

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.alive

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Start it with a log of its own."""
        log = self.folder / f"{self.name}.{self._starts}.log"
        path = f"{CLOCK}:{ROOT}"
        env = {**self.env(), "PYTHONPATH": path, "FAULTS_CLOCK": str(self.clock)}
        command = [sys.executable, "-m", "deploy.cli", self.command]
        self._child = Child.start(self.name, command, folder=self.folder, log=log, env=env)
        self._starts += 1
        self._ours = False
        self.started_s = time.monotonic()

    def kill(self) -> None:
        """End it without warning; the supervision starts it again."""
        self._ours = True
        self._signal(signal.SIGKILL)
        self.paused = False

    def pause(self) -> None:
        self.paused = True
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)
        self.paused = False

    def leave(self) -> None:
        """Tell it to stop for good; its exit code is judged."""
        self._wanted = False
        self.resume()
        self._signal(signal.SIGTERM)

    async def supervise(self) -> None:
        """Start it now, and again whenever it ends, until it is told to leave and has left."""
        pause_s = RESTART_S
        while True:
            self.start()
            await self._ended()
            if not self._wanted:
                return
            quick = time.monotonic() - self.started_s < 10
            pause_s = min(2 * pause_s, LONGEST_RESTART_S) if quick else RESTART_S
            await asyncio.sleep(pause_s)

    async def end(self) -> None:
        """Take it away at the end of a run, whatever state it is in."""
        self._wanted = False
        if self._child is not None and self._child.alive:
            self._ours = True
            await asyncio.to_thread(self._child.kill)

    def ready(self) -> bool:
        """Whether its probe says that it serves."""
        return self.ask("/ready")[0] == 200

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body of one of its pages; status 0 while it serves none."""
        said = self.logs()[-1].read_text(errors="replace") if self._starts else ""
        if (found := re.search(r"http://(127\.0\.0\.1:\d+)/ready", said)) is None:
            return 0, ""
        try:
            with urllib.request.urlopen(f"http://{found[1]}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, answer.read().decode()
        except OSError:
            return 0, ""

    async def tell_stacks(self) -> None:
        """Have it write to its log what each of its threads and tasks waits for."""
        self._signal(signal.SIGUSR1)
        await asyncio.sleep(1)

    def logs(self) -> list[Path]:
        return [self.folder / f"{self.name}.{number}.log" for number in range(self._starts)]

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.signal(number)

    async def _ended(self) -> None:
        """Wait for its end, which no handle of ours announces, and note it."""
        while self.alive:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        if self._child is not None:
            code = await asyncio.to_thread(self._child.finish, 10)
            said = last_words(self._child.log.read_text(errors="replace"))
            # Told to leave before it could listen to that: the signal's own way to end a process.
            early = not self._wanted and code == -signal.SIGTERM
            self.exits.append(Exit(self.name, time.monotonic(), code, said, self._ours or early))


def last_words(log: str) -> str:
    """The last line of level critical, else of level error, else the last line; empty without any."""
    lines = log.splitlines()
    for level in ("critical", "error"):
        for line in reversed(lines):
            if re.match(rf"\S+ {level} ", line):
                return line
    return lines[-1] if lines else ""
