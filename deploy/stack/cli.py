"""`kairos up`: the local stack in the foreground."""

import argparse
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.stack import fetch, ports
from deploy.stack.errors import StackError
from deploy.stack.local import LocalStack
from streams.service.arguments import port

KAFKA_PORT, REDIS_PORT = 19_092, 16_379


def up(argv: Sequence[str]) -> int:
    """Run Kafka and Valkey until SIGINT or SIGTERM; print the two variables that point Kairos at them."""
    options = _parser().parse_args(argv)
    if options.fetch:
        fetch.kafka_jars(_say), fetch.java(), fetch.valkey_server()
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder: Path = options.folder.absolute()
    try:
        with (
            _only_user(folder),
            LocalStack(
                folder,
                kafka_port=_wish(options.kafka_port, KAFKA_PORT),
                redis_port=_wish(options.redis_port, REDIS_PORT),
                say=_say,
            ) as stack,
        ):
            for name, value in stack.environment().items():
                print(f"export {name}={value}", flush=True)
            if stack.broker is None and stack.valkey is None:
                _say("KAIROS_KAFKA and KAIROS_REDIS name servers that already run: there is nothing to start.")
                return 0
            _say(f"Ready. Data and logs: {folder}. Ctrl-C stops what was started.")
            _watch(stack)
    except KeyboardInterrupt:
        _say("Stopped.")
    return 0


def default_folder() -> Path:
    """Where data is kept between runs: `$XDG_DATA_HOME/kairos/stack`, by default below `~/.local/share`."""
    root = os.environ.get("XDG_DATA_HOME")
    return (Path(root) if root else Path.home() / ".local" / "share") / "kairos" / "stack"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kairos up",
        description="Run real Apache Kafka and Valkey here until Ctrl-C. "
        "A server that KAIROS_KAFKA or KAIROS_REDIS names is used as it is and not started.",
    )
    parser.add_argument("--folder", type=Path, default=default_folder(), help="data and logs (default: %(default)s)")
    parser.add_argument("--kafka-port", type=port, help=f"Kafka's port (default: {KAFKA_PORT}, else a free one)")
    parser.add_argument("--redis-port", type=port, help=f"Valkey's port (default: {REDIS_PORT}, else a free one)")
    parser.add_argument("--fetch", action="store_true", help="only download what is missing, start nothing")
    return parser


def _wish(asked: int | None, usual: int) -> int | None:
    """Take the port asked for, else the usual one while it is free, else any (None)."""
    if asked is not None:
        return asked
    return usual if ports.is_free(usual) else None


@contextmanager
def _only_user(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"Another kairos up runs in {folder}: use its servers, stop it, or name another --folder."
            raise StackError(msg) from None
        yield


def _watch(stack: LocalStack) -> None:
    """Wait for ever; raise when a server ends that nobody stopped."""
    servers = [server for server in (stack.broker, stack.valkey) if server is not None]
    while True:
        for server in servers:
            if not server.child.alive:
                msg = f"{server.child.name} has ended; its log {server.log} closes with:\n{server.child.tail()}"
                raise StackError(msg)
        time.sleep(0.5)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
