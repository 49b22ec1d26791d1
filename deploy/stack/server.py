"""What the broker and the Valkey share: one child process over a data folder, stopped and started again at will."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from deploy.stack.child import Child
from deploy.stack.errors import StackError


class Server(ABC):
    """A server with its data folder; `stop`, `kill` and `start` again keep data and port."""

    name: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).absolute()
        self._child: Child | None = None

    @abstractmethod
    def start(self, timeout_s: float = 60) -> Self:
        """Start and block until the server has loaded its data and answers."""

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.folder / f"{self.name.lower()}.log"

    @property
    def child(self) -> Child:
        """The running process; an error when the server was not started."""
        if self._child is None:
            msg = f"The {self.name} in {self.folder} was not started: call start() first."
            raise StackError(msg)
        return self._child

    @property
    def running(self) -> bool:
        """Whether the process runs (a paused one does)."""
        return self._child is not None and self._child.alive

    def stop(self) -> None:
        """Shut the server down; harmless when it does not run."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """End the server with SIGKILL; a broker's next start recovers its log (10 s or more)."""
        self.child.kill()

    def pause(self) -> None:
        """Freeze the server."""
        self.child.pause()

    def resume(self) -> None:
        """Let a frozen server go on."""
        self.child.resume()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
