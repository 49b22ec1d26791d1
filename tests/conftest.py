"""Servers for the tests: one real Kafka and one real Valkey a session, and makers of further ones."""

import itertools
import logging
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.stack import Broker, LocalStack, Valkey, ValkeyCluster, ValkeySentinel

_serial = itertools.count()


@pytest.fixture(autouse=True)
def keep_tiny_floats() -> Iterator[None]:
    """Undo what a ranker of the test set for its process: with flushed denormals hypothesis cannot draw floats."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(autouse=True)
def keep_logs_as_they_were() -> Iterator[None]:
    """Undo what a command of the test, run in this process, set for all logs."""
    root, theirs = logging.getLogger(), logging.getLogger("aiokafka")
    level, handlers, level_of_theirs = root.level, list(root.handlers), theirs.level
    yield
    for handler in [each for each in root.handlers if each not in handlers]:
        root.removeHandler(handler)
    root.setLevel(level)
    theirs.setLevel(level_of_theirs)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The session's Kafka and Valkey; KAIROS_KAFKA and KAIROS_REDIS name others that already run."""
    with LocalStack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="session")
def kafka(stack: LocalStack) -> str:
    """host:port of the session's broker; keep apart from other tests with `topic_prefix`."""
    return stack.kafka


@pytest.fixture(scope="session")
def redis_url(stack: LocalStack) -> str:
    """URL of the session's Valkey; keep apart from other tests with `namespace`."""
    return stack.redis


@pytest.fixture(scope="session")
def redis_cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Valkey Cluster of three primaries, started for the first test that asks."""
    with ValkeyCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster.url


@pytest.fixture
def topic_prefix() -> str:
    """A topic prefix that no other test has."""
    return f"t{next(_serial)}-{uuid.uuid4().hex[:8]}."


@pytest.fixture
def namespace() -> str:
    """A Redis namespace that no other test has."""
    return f"t{next(_serial)}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Start a broker of the test's own, to kill or pause; the arguments are Broker's."""
    with ExitStack() as running:

        def make(**options: object) -> Broker:
            return running.enter_context(Broker(tmp_path / f"kafka{next(_serial)}", **options))  # type: ignore[arg-type]

        yield make


@pytest.fixture
def make_valkey(tmp_path: Path) -> Iterator[Callable[..., Valkey]]:
    """Start a Valkey of the test's own, to kill, pause or set up differently; the arguments are Valkey's."""
    with ExitStack() as running:

        def make(**options: object) -> Valkey:
            return running.enter_context(Valkey(tmp_path / f"valkey{next(_serial)}", **options))  # type: ignore[arg-type]

        yield make


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., ValkeyCluster]]:
    """Start a Valkey Cluster of three primaries; the arguments are ValkeyCluster's."""
    with ExitStack() as running:

        def make(**options: object) -> ValkeyCluster:
            return running.enter_context(ValkeyCluster(tmp_path / f"cluster{next(_serial)}", **options))  # type: ignore[arg-type]

        yield make


@pytest.fixture
def make_sentinel(tmp_path: Path) -> Iterator[Callable[..., ValkeySentinel]]:
    """Start a primary, a replica and a Sentinel; the arguments are ValkeySentinel's."""
    with ExitStack() as running:

        def make(**options: object) -> ValkeySentinel:
            return running.enter_context(ValkeySentinel(tmp_path / f"sentinel{next(_serial)}", **options))  # type: ignore[arg-type]

        yield make
