"""One server process of the local stack: its own session, a log file, and a watchdog that ends it when we die."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Self

from deploy.stack.errors import StackError

# The watchdog reads a pipe whose only writer is this process: a line says that all is done, end of file that we died.
# (PR_SET_PDEATHSIG fires when the thread that started the child ends, and asyncio.to_thread's do end.)
_WATCHDOG = """
read -r line && exit 0
kill -CONT "-$1" 2>/dev/null
kill -TERM "-$1" 2>/dev/null
tries=0
while kill -0 "-$1" 2>/dev/null && [ "$tries" -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -KILL "-$1" 2>/dev/null
"""


class Child:
    """A started process group; every signal goes to the group by the handle we hold, never to a name."""

    def __init__(
        self, name: str, process: "subprocess.Popen[bytes]", watchdog: "subprocess.Popen[bytes]", log: Path
    ) -> None:
        self.name, self.log = name, log
        self._process, self._watchdog = process, watchdog

    @classmethod
    def start(
        cls, name: str, command: Sequence[str | Path], *, folder: Path, log: Path, env: Mapping[str, str] | None = None
    ) -> Self:
        """Start the command in `folder` with both outputs appended to `log`."""
        with log.open("ab") as sink:
            process = _popen(name, [str(part) for part in command], folder, sink, env)
        watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "watchdog", str(process.pid)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        return cls(name, process, watchdog, log)

    @property
    def pid(self) -> int:
        """The process id, which is the id of the group too."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs (a paused one does)."""
        return self._process.poll() is None

    def wait_ready(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Block until `ready()`; raise with the end of the log when the process ends or the time is up."""
        deadline_s = time.monotonic() + timeout_s
        while not ready():
            if not self.alive:
                self._reap(timeout_s=30)
                raise StackError(self._closing(f"ended at once (exit {self._process.returncode})"))
            if time.monotonic() > deadline_s:
                self.kill()
                raise StackError(self._closing(f"did not answer within {timeout_s:.0f} s"))
            time.sleep(0.02)

    def finish(self, timeout_s: float) -> int:
        """Wait for a process that ends by itself; kill it when the time is up; return its exit status."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
        self._reap(timeout_s=30)
        return self._process.returncode

    def _closing(self, what: str) -> str:
        return f"{self.name} {what}; its log {self.log} closes with:\n{self.tail()}"

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) or "(nothing)"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, if it still runs."""
        if self.alive:
            os.killpg(self.pid, number)

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): it keeps its connections and answers nothing."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process without warning (SIGKILL) and reap it."""
        self.signal(signal.SIGKILL)
        self._reap(timeout_s=30)

    def stop(self, timeout_s: float = 30) -> None:
        """Ask the process to end (SIGTERM), kill it when it does not, and reap it."""
        self.resume()
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
        self._reap(timeout_s=30)

    def _reap(self, timeout_s: float) -> None:
        self._process.wait(timeout_s)
        try:
            self._watchdog.communicate(b"done\n", timeout_s)
        except ValueError:  # the pipe was closed by an earlier stop
            self._watchdog.wait(timeout_s)


def _popen(
    name: str, command: list[str], folder: Path, sink: IO[bytes], env: Mapping[str, str] | None
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT,
            start_new_session=True, env=None if env is None else {**os.environ, **env},
        )  # fmt: skip
    except OSError as problem:
        msg = f"{name} cannot be started: {command[0]}: {problem.strerror}."
        raise StackError(msg) from problem
