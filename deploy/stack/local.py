"""Kafka and Valkey together: started here, or the ones that KAIROS_KAFKA and KAIROS_REDIS name."""

import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from deploy.stack import fetch
from deploy.stack.broker import Broker
from deploy.stack.valkey import Valkey


class LocalStack:
    """A context manager with `.kafka` (host:port) and `.redis` (URL).

    folder  where data and logs live; a temporary folder, removed at the end, when None
    env     where KAIROS_KAFKA and KAIROS_REDIS are looked up (os.environ when None); what they name is not started
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        env: Mapping[str, str] | None = None,
        kafka_port: int | None = None,
        redis_port: int | None = None,
        say: fetch.Say = lambda _: None,
    ) -> None:
        known = os.environ if env is None else env
        self._folder, self._say, self._cleanup = folder, say, ExitStack()
        self._wished_ports = (kafka_port, redis_port)
        self._kafka, self._redis = known.get("KAIROS_KAFKA") or None, known.get("KAIROS_REDIS") or None
        self.broker: Broker | None = None
        self.valkey: Valkey | None = None

    @property
    def kafka(self) -> str:
        """host:port of Kafka, as KAIROS_KAFKA takes it."""
        return self._kafka or (self.broker.address if self.broker else "")

    @property
    def redis(self) -> str:
        """The Redis URL, as KAIROS_REDIS takes it."""
        return self._redis or (self.valkey.url if self.valkey else "")

    def environment(self) -> dict[str, str]:
        """The two variables that point any Kairos process at this stack."""
        return {"KAIROS_KAFKA": self.kafka, "KAIROS_REDIS": self.redis}

    def start(self) -> Self:
        """Start what no variable names; what already started is stopped again when the rest fails."""
        with ExitStack() as undo:
            folder = self._folder or Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="kairos-")))
            kafka_port, redis_port = self._wished_ports
            if self._redis is None:
                self.valkey = undo.enter_context(Valkey(folder / "valkey", port=redis_port))
            if self._kafka is None:
                self.broker = undo.enter_context(Broker(folder / "kafka", port=kafka_port, say=self._say))
            self._cleanup = undo.pop_all()
        return self

    def stop(self) -> None:
        """Stop what was started, Kafka first, and remove a temporary folder."""
        self._cleanup.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
