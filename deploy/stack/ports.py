"""Free TCP ports below the ephemeral range, so that no outgoing connection can take them while a server restarts."""

import random
import socket

from deploy.stack.errors import PortTaken, StackError

LOWEST, HIGHEST = 20_000, 32_767
_given: set[int] = set()


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Pick a port that is free and that this process has not been given before."""
    for _ in range(1_000):
        port = random.SystemRandom().randint(LOWEST, HIGHEST)
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    msg = f"No free TCP port was found between {LOWEST} and {HIGHEST}: end some of the servers on this machine."
    raise StackError(msg)


def claim(port: int | None, owner: str) -> int:
    """Return the wished port when it is free, a free one when there is no wish."""
    if port is None:
        return free_port()
    if not is_free(port):
        msg = (
            f"Port {port} on 127.0.0.1 is taken, so {owner} cannot listen there: end what uses it or name another port."
        )
        raise PortTaken(msg)
    return port
