"""A door before the broker that notes when a process first speaks to Kafka, before anything passes."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress


class Gate:
    """Listens on a port of its own and hands every connection on to the broker's.

    Clients only bootstrap through it: from the first answer on they use the address that the broker advertises.
    `on_first` runs once, between the first connection and the first byte that goes through.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._first: Callable[[], None] | None = None
        self.opened = threading.Event()

    @property
    def address(self) -> str:
        """host:port to give to a client."""
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    def open(self, on_first: Callable[[], None]) -> None:
        """Let clients through from now on."""
        self._first = on_first
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections; those that are there go on to their end."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:  # closed
                return
            if self._first is not None:
                first, self._first = self._first, None
                first()
                self.opened.set()
            broker = socket.create_connection(("127.0.0.1", self._port))
            for source, target in ((client, broker), (broker, client)):
                threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Carry bytes one way until either side hangs up."""
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
