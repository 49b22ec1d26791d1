"""The tables of a namespace, opened from settings; no framework comes with them."""

from __future__ import annotations

import secrets

from schemas.topics import Topics
from streams.features.declaration import DEFAULT, Declaration
from streams.features.features_file import load
from streams.features.items import ItemLayout
from streams.features.rows import Layout
from streams.service.redis import Client, connect
from streams.settings import Tools
from streams.tables.items import ItemTable
from streams.tables.redis_store import RedisStore
from streams.tables.users import UserTable


def declared(tools: Tools) -> Declaration:
    """The declaration of features that the settings name."""
    return load(tools.features) if tools.features else DEFAULT


class Tables:
    """The tables of a namespace in its Redis, and the client they share.

    `cache_bytes` is for rows of users; `queueing`: whether users are put into the queue.
    """

    def __init__(
        self, tools: Tools, *, cache_bytes: int = 1 << 20, queueing: bool = True, client: Client | None = None
    ) -> None:
        self.declaration = declared(tools)
        self.client: Client = client or connect(tools.connections)
        store, keys, writer = RedisStore(self.client), tools.connections.keys, secrets.token_hex(6)
        self.users = UserTable(
            store, keys, Layout(self.declaration), writer=writer, cache_bytes=cache_bytes, queueing=queueing
        )
        self.items = ItemTable(store, keys, ItemLayout(self.declaration), writer=writer, cache_bytes=cache_bytes)

    def of_topics(self, topics: Topics) -> dict[str, UserTable | ItemTable]:
        """The table that each input topic is folded into."""
        return {**dict.fromkeys(topics.user_inputs, self.users), **dict.fromkeys(topics.item_inputs, self.items)}

    async def time(self) -> tuple[int, int]:
        """Seconds and microseconds since 1970 as the server has them."""
        seconds, microseconds = await self.client.time()
        return seconds, microseconds

    async def close(self) -> None:
        """Close the connections, and let go of all rows."""
        self.users.release_all()
        self.items.release_all()
        await self.client.aclose()
