"""One measured process: started, watched from its first word to the broker until it has applied all, then ended."""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.bench.accounting import cpu_s, peak_mb
from tests.bench.gate import Gate
from tests.bench.reference import APPLIED

ROOT = Path(__file__).resolve().parents[2]


class ContenderError(RuntimeError):
    """A measured process ended early or did not finish in time; the text closes with the end of its log."""


@dataclass(frozen=True)
class Spent:
    """What a run cost: CPU from the first connection to the end, CPU of the start before it, peak MB, wall seconds."""

    cpu_s: float
    start_cpu_s: float
    peak_mb: float
    wall_s: float
    said: str = ""


class Contender:
    """A running process under measurement, which bootstraps from `gate` and costs from its first word there."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], *, folder: Path, gate: Gate) -> None:
        self.name, self.gate, self.log = name, gate, folder / f"{name}-{time.monotonic_ns()}.log"
        self.start_cpu_s = self.started_s = 0.0
        clean = {k: v for k, v in os.environ.items() if not k.startswith("KAIROS_")}
        self._sink: IO[bytes] = self.log.open("wb")
        self.process = subprocess.Popen(
            command, env={**clean, **env}, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._sink
        )
        gate.open(self._note_first_word)
        try:
            self._wait_for_first_word()
        except BaseException:
            self.stop()
            raise

    def run(self, finished: Callable[[], bool], *, every_s: float = 0.05, timeout_s: float = 120) -> Spent:
        """Wait until `finished()`, then stop the process and say what it cost."""
        try:
            self.wait(finished, every_s=every_s, timeout_s=timeout_s)
            return self.spent()
        finally:
            self.stop()

    def run_until_said(self, timeout_s: float = 120) -> Spent:
        """Wait until the process prints APPLIED (and perhaps more on that line), then stop it and say what it cost."""
        try:
            said = self._line(timeout_s)
            return self.spent(said)
        finally:
            self.stop()

    def wait(self, finished: Callable[[], bool], *, every_s: float = 0.05, timeout_s: float = 120) -> None:
        """Block until `finished()`; raises ContenderError when the process ends before or the time is up."""
        deadline_s = time.monotonic() + timeout_s
        while not finished():
            self._complain_if(self.process.poll() is not None, f"ended with status {self.process.returncode}")
            self._complain_if(time.monotonic() > deadline_s, f"did not finish within {timeout_s:.0f} s")
            time.sleep(every_s)

    def spent(self, said: str = "") -> Spent:
        """What the process has cost until now."""
        pid = self.process.pid
        cpu = cpu_s(pid) - self.start_cpu_s
        return Spent(cpu, self.start_cpu_s, peak_mb(pid), time.monotonic() - self.started_s, said)

    def stop(self, timeout_s: float = 20) -> None:
        """End the process: end of input for those that wait for it, SIGTERM, then SIGKILL."""
        if self.process.poll() is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._sink.close()
        self.gate.close()

    def _wait_for_first_word(self, timeout_s: float = 60) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not self.gate.opened.wait(0.05):
            self._complain_if(self.process.poll() is not None, f"ended with status {self.process.returncode}")
            self._complain_if(time.monotonic() > deadline_s, f"did not connect to Kafka in {timeout_s:.0f} s")

    def _note_first_word(self) -> None:
        self.start_cpu_s, self.started_s = cpu_s(self.process.pid), time.monotonic()

    def _line(self, timeout_s: float) -> str:
        """The line that begins with APPLIED, without that word."""
        assert self.process.stdout is not None
        deadline_s, text = time.monotonic() + timeout_s, b""
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            while True:
                self._complain_if(not ready.select(deadline_s - time.monotonic()), f"said nothing in {timeout_s:.0f} s")
                piece = os.read(self.process.stdout.fileno(), 65_536)
                self._complain_if(not piece, "ended before it had applied all")
                text += piece
                for line in text.decode("utf-8", "replace").splitlines(keepends=True):
                    if line.startswith(APPLIED) and line.endswith("\n"):
                        return line[len(APPLIED) :].strip()

    def _complain_if(self, wrong: bool, what: str) -> None:
        if wrong:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            message = f"{self.name} {what}; its log closes with:\n{tail}"
            raise ContenderError(message)


def python(module: str, *arguments: str) -> list[str]:
    """The command of one of our own modules as a process."""
    return [sys.executable, "-m", module, *arguments]
