"""Who was erased, and until when what they did must not be learned from: the tombstones of the namespace in force."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, cast

from schemas.keys import Keys
from streams.service.namespaces import in_force
from streams.service.redis import connect
from streams.service.trouble import TROUBLE, clause

if TYPE_CHECKING:
    from streams.service.settings import Connections


async def erased_users(connections: Connections, partitions: int) -> dict[str, int]:
    """Epoch ms by user id, over so many partitions of users. Raises OSError, as a sentence, when Redis does not say."""
    client = connect(connections)
    try:
        keys = Keys((await in_force(client, connections.namespace)).live)
        found: dict[str, int] = {}
        for partition in range(partitions):
            tombstones = cast("Awaitable[dict[bytes, bytes]]", client.hgetall(Keys.erased(keys.user_tag(partition))))
            found |= {user.decode(): int(ms) for user, ms in (await tombstones).items()}
    except TROUBLE as error:
        message = (
            f"Redis does not say who was erased ({clause(error)}): is KAIROS_REDIS right, is it running? "
            "--with-erased learns from everybody."
        )
        raise OSError(message) from error
    else:
        return found
    finally:
        await client.aclose()
