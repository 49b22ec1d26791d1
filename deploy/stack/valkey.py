"""A real Valkey (or Redis) server as a child process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from deploy.stack import fetch, ports
from deploy.stack.child import Child
from deploy.stack.protocol import redis_answers
from deploy.stack.server import Server

SETTINGS: Mapping[str, str] = {
    "appendfsync": "everysec",
    "appendonly": "yes",
    "maxmemory-policy": "noeviction",
    "save": "",
}


class Valkey(Server):
    """One server with its data folder; `stop`, `kill` and `start` again keep data and port.

    config  directives over SETTINGS, by name: {"maxmemory": "64mb"}
    """

    name = "Valkey"

    def __init__(self, folder: Path, *, port: int | None = None, config: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self.port = ports.claim(port, "Valkey")
        self._config = {**SETTINGS, **(config or {})}

    @property
    def url(self) -> str:
        """The address as KAIROS_REDIS takes it."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self, timeout_s: float = 30) -> Self:
        """Start and block until the server has loaded its data and answers."""
        if self.running:
            return self
        program = fetch.valkey_server()
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "valkey.conf"
        settings.write_text("".join(f"{name} {_quote(value)}\n" for name, value in self._directives().items()))
        self._child = Child.start(self.name, [program, settings, *self._arguments()], folder=self.folder, log=self.log)
        self._child.wait_ready(lambda: redis_answers(self.port), timeout_s)
        return self

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
