"""A real Valkey (or Redis) server as a child process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from deploy.stack import fetch, ports
from deploy.stack.child import Child
from deploy.stack.errors import StackError
from deploy.stack.protocol import redis_answers

SETTINGS: Mapping[str, str] = {
    "appendfsync": "everysec",
    "appendonly": "yes",
    "maxmemory-policy": "noeviction",
    "save": "",
}


class Valkey:
    """One server with its data folder; `stop`, `kill` and `start` again keep data and port.

    config  directives over SETTINGS, by name: {"maxmemory": "64mb"}
    """

    def __init__(self, folder: Path, *, port: int | None = None, config: Mapping[str, str] | None = None) -> None:
        self.folder = Path(folder).absolute()
        self.port = ports.claim(port, "Valkey")
        self._config = {**SETTINGS, **(config or {})}
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The address as KAIROS_REDIS takes it."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.folder / "valkey.log"

    @property
    def child(self) -> Child:
        """The running process; an error when the server was not started."""
        if self._child is None:
            msg = f"The Valkey in {self.folder} was not started: call start() first."
            raise StackError(msg)
        return self._child

    def start(self, timeout_s: float = 30) -> Self:
        """Start and block until the server has loaded its data and answers."""
        if self._child is not None and self._child.alive:
            return self
        program = fetch.valkey_server()
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "valkey.conf"
        settings.write_text("".join(f"{name} {_quote(value)}\n" for name, value in self._directives().items()))
        self._child = Child.start("Valkey", [program, settings, *self._arguments()], folder=self.folder, log=self.log)
        self._child.wait_ready(lambda: redis_answers(self.port), timeout_s)
        return self

    def stop(self) -> None:
        """Shut the server down; harmless when it does not run."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """End the server with SIGKILL."""
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

    def directive(self, name: str) -> str:
        """Return a directive that the server was given."""
        return self._directives()[name]

    def _directives(self) -> dict[str, str]:
        return {**self._place(), **self._config}

    def _place(self) -> dict[str, str]:
        return {"bind": "127.0.0.1", "port": str(self.port), "dir": str(self.folder), "daemonize": "no"}

    def _arguments(self) -> list[str]:
        return []


def _quote(value: str) -> str:
    """Quote a value of the configuration file unless it is several plain words."""
    return (
        value
        if value and '"' not in value and "\\" not in value
        else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )
