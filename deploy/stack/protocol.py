"""Questions in the servers' own protocols that tell whether they are ready: Kafka's Metadata, Redis's PING."""

import socket
import struct

_METADATA, _VERSION = 3, 1


def listens(port: int, timeout_s: float = 2.0) -> bool:
    """Connect and go again: ready when something takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout_s).close()
    except OSError:
        return False
    return True


def kafka_answers(port: int, timeout_s: float = 2.0) -> bool:
    """Ask for metadata (v1, no topics): ready when a broker is registered and a controller is known."""
    client = b"kairos-ready"
    body = struct.pack(">hhih", _METADATA, _VERSION, 1, len(client)) + client + struct.pack(">i", 0)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            (size_bytes,) = struct.unpack(">i", _exactly(connection, 4))
            answer = _exactly(connection, size_bytes)
    except OSError:
        return False
    # correlation id, number of brokers, the brokers, controller id, number of topics (none)
    (brokers,) = struct.unpack_from(">i", answer, 4)
    (controller,) = struct.unpack_from(">i", answer, len(answer) - 8)
    return bool(brokers >= 1 and controller >= 0)


def redis_answers(port: int, timeout_s: float = 2.0) -> bool:
    """Send PING: ready when the server says PONG or asks for a password; not while it still loads."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))
    except OSError:
        return False


def _exactly(connection: socket.socket, size_bytes: int) -> bytes:
    """Read so many bytes; an OSError when the other side closes before."""
    parts = b""
    while len(parts) < size_bytes:
        part = connection.recv(size_bytes - len(parts))
        if not part:
            msg = "the connection was closed in the middle of an answer"
            raise ConnectionError(msg)
        parts += part
    return parts
