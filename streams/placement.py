"""Where a worker folds: the namespace in force, or the one it was started with, and its word on the roll about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from schemas.keys import Keys
from streams.features.rows import mismatch
from streams.needs import reach_kafka, reach_redis
from streams.service import roll
from streams.service.namespaces import schema_of
from streams.service.redis import connect
from streams.service.settings import Connections
from streams.service.trouble import TROUBLE
from streams.service.waiting import Waiting
from streams.tables.errors import OtherDeclaration
from streams.tables.weather import Weather


class Placement:
    """Finds the namespace to fold into; `into`, where it is not empty, is that one for ever.

    `schema`: that of the rows which this process reads. `waiting` is told what is missing. Make it in the event loop.
    """

    def __init__(self, connections: Connections, schema: int, waiting: Waiting, *, into: str = "") -> None:
        self.connections, self.schema, self.waiting, self.into = connections, schema, waiting, into
        self._client = connect(connections)
        self.roll = roll.Roll(self._client, connections.namespace, roll.myself("stream", schema, pinned=bool(into)))

    @property
    def likely(self) -> str:
        """The namespace as far as is known without asking."""
        return self.into or self.roll.force.live

    async def found(self) -> str:
        """The namespace, once Kafka and Redis answer and we can read its rows, or it has none; raises OtherDeclaration.

        Waits for the promotion of a run whose rows we read, where there is one.
        """
        weather = Weather()
        await reach_kafka(self.connections, self.waiting)
        namespace = self.into
        if not namespace:
            placing = roll.place(self.roll, weather.ride, self._say, serving=False)
            namespace = (await reach_redis(weather, self.waiting, placing)).live
        reading = weather.ride("reading a row's schema", lambda: schema_of(self._client, Keys(namespace)))
        schema = await reach_redis(weather, self.waiting, reading)
        if schema not in (None, self.schema):
            text = f"Namespace {namespace} holds rows of {mismatch(schema or 0, self.schema)}."
            raise OtherDeclaration(text)
        return namespace

    async def readable(self, namespace: str) -> bool:
        """Whether we can read the rows of a namespace; False also where Redis does not say."""
        try:
            return await schema_of(self._client, Keys(namespace)) in (None, self.schema)
        except TROUBLE:
            return False

    async def another(self, namespace: str) -> str:
        """The namespace to fold into once it is another one than this; on the roll all the while."""
        return (await self.roll.until(lambda force: not self.into and force.live != namespace)).live

    @asynccontextmanager
    async def on_the_roll(self) -> AsyncIterator[None]:
        """Stay on the roll as we are, whatever comes into force."""
        calling = asyncio.create_task(self.roll.until(lambda _force: False))
        try:
            yield
        finally:
            calling.cancel()

    async def tell(self, namespace: str) -> None:
        """Say on the roll where we work now; with an empty name, that we wait."""
        self.roll.works_in(namespace)
        with suppress(*TROUBLE):
            await self.roll.call()

    async def leave(self) -> None:
        """Be off the roll, and close the connection."""
        await self.roll.leave()
        await self._client.aclose()

    def _say(self, sentence: str) -> None:
        if sentence:
            self.waiting.on("namespace", sentence)
        else:
            self.waiting.over("namespace")
