"""A service as a process of its own, seen through its log, its probes and its exit code."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


class WorkerProcess:
    """A `kairos worker`, or another service, of its own, with its log."""

    def __init__(self, env: Mapping[str, str], log: Path, *options: str, service: str = "worker") -> None:
        self.log = log
        with log.open("wb") as out:
            command = [sys.executable, "-m", "deploy.cli", service, *options]
            self.process = subprocess.Popen(command, cwd=ROOT, env=dict(env), stdout=out, stderr=out)

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def address(self) -> str:
        """Where the probes are, empty before they are served."""
        found = re.search(r"http://(127\.0\.0\.1:\d+)/ready", self.text)
        return found[1] if found else ""

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a probe; status 0 before it is served."""
        if not self.address:
            return 0, ""
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, answer.read().decode()
        except OSError:
            return 0, ""

    async def ready(self, timeout_s: float = 40) -> None:
        """Wait until the worker reads and applies."""
        await until(lambda: self.get("/ready")[0] == 200, timeout_s, lambda: self.text[-3000:], self)

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if re.match(rf"{name}[ {{]", line)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def term(self) -> int:
        """Tell it to stop; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """Kill -9, of a process that may be gone already."""
        self.process.kill()
        self.process.wait(10)


async def until(condition: Any, timeout_s: float, explain: Any, worker: WorkerProcess | None = None) -> None:
    """Wait for a condition; says what `explain()` says when it does not come true or the worker ends before."""
    deadline_s = time.monotonic() + timeout_s
    while not await asyncio.to_thread(condition):
        ended = worker is not None and worker.process.poll() is not None
        if ended or time.monotonic() > deadline_s:
            message = f"{'the worker ended' if ended else f'not within {timeout_s} s'}: {explain()}"
            raise AssertionError(message)
        await asyncio.sleep(0.1)
