"""Takes the addresses in settings apart: host:port lists and the Redis URLs."""

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

REDIS_FORMS = (
    "write redis://host:port/db, redis+cluster://host:port,host:port or "
    "redis+sentinel://host:port,host:port/service (rediss for TLS)"
)


@dataclass(frozen=True)
class RedisAddress:
    """kind: "single", "cluster" or "sentinel"; service: the name Sentinel knows the primary by."""

    kind: str
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None
    db: int
    service: str

    def __str__(self) -> str:
        """The address for messages, without user and password."""
        scheme = ("rediss" if self.tls else "redis") + ("" if self.kind == "single" else f"+{self.kind}")
        return f"{scheme}://{','.join(f'{host}:{port}' for host, port in self.hosts)}"


def host_ports(text: str, default_port: int | None = None) -> tuple[tuple[str, int], ...]:
    """The (host, port) pairs of "host:port,[::1]:port"; raises ValueError with a part of a sentence."""
    return tuple(_host_port(part.strip(), default_port) for part in text.split(","))


def redis_address(url: str) -> RedisAddress:
    """Raises ValueError with a sentence that shows no password."""
    try:
        return _redis_address(url)
    except ValueError as error:
        msg = f"KAIROS_REDIS {error}; {REDIS_FORMS}."
        raise ValueError(msg) from None


def _redis_address(url: str) -> RedisAddress:
    scheme, _, rest = url.partition("://")
    secure, _, kind = scheme.partition("+")
    kind = kind or "single"
    if secure not in {"redis", "rediss"} or kind not in {"single", "cluster", "sentinel"} or not rest:
        msg = "has an unknown scheme"
        raise ValueError(msg)
    parts = urlsplit(f"//{rest}")
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    path = [unquote(part) for part in parts.path.split("/") if part]
    service = path.pop(0) if kind == "sentinel" and path else ""
    db = path.pop(0) if path else "0"
    if parts.query or parts.fragment or path:
        msg = "has parts after the database"
        raise ValueError(msg)
    if not db.isdecimal() or (kind == "cluster" and db != "0"):
        msg = "has no such database number" if kind != "cluster" else "names a database, which a Cluster does not have"
        raise ValueError(msg)
    if kind == "sentinel" and not service:
        msg = "names no Sentinel service"
        raise ValueError(msg)
    pairs = host_ports(hosts, 26379 if kind == "sentinel" else 6379)
    if kind == "single" and len(pairs) > 1:
        msg = "names several hosts but neither +cluster nor +sentinel"
        raise ValueError(msg)
    return RedisAddress(
        kind, secure == "rediss", pairs, unquote(username) or None, unquote(password) or None, int(db), service
    )


def _host_port(text: str, default_port: int | None) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if default_port is not None and (not colon or text.endswith("]")):
        host, port = text, str(default_port)
    if not host.strip("[]") or not port.isdecimal() or int(port) > 65535:
        msg = f"holds {text!r}, which is not host:port"
        raise ValueError(msg)
    return host.strip("[]"), int(port)
