"""The `kairos://` transport of Faust: aiokafka underneath, chunks of records on top."""

from __future__ import annotations

from typing import Any

import faust
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver

from streams.chunks.chunking import Chunking
from streams.chunks.consumer import ChunkConsumer

SCHEME = "kairos"


class Transport(driver.Transport):
    """Stock Faust transport with the chunking consumer."""

    Consumer = ChunkConsumer


class ChunkedApp(faust.App):
    """A Faust app all of whose topics are consumed in chunks; its broker address starts with `kairos://`."""

    mundane_level = "debug"

    def __init__(self, group: str, *, chunking: Chunking, **options: Any) -> None:
        self.chunking = chunking
        super().__init__(group, **options)


class RawSchema(faust.Schema[Any, Any]):
    """Hands a chunk through untouched: Faust decodes nothing."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> None:  # noqa: ARG002
        return None

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002
        return message.value


TRANSPORTS.aliases.setdefault(SCHEME, f"{Transport.__module__}:{Transport.__qualname__}")
