"""A client built from a Sentinel URL finds the primary, and finds it again when it has become another."""

import asyncio
from collections.abc import Callable

from deploy.stack import ValkeySentinel
from streams.service.redis import connect
from streams.service.settings import Connections, read


async def test_a_promoted_replica_is_found_by_the_same_client(make_sentinel: Callable[..., ValkeySentinel]) -> None:
    trio = make_sentinel()
    client = connect(read(Connections, {"KAIROS_REDIS": trio.url}))
    try:
        await client.set("kept", b"yes")
        await client.execute_command("WAIT", 1, 5_000)
        trio.primary.kill()
        await asyncio.to_thread(trio.wait_promoted)
        assert await client.get("kept") == b"yes"
        await client.set("after", b"promotion")
    finally:
        await client.aclose()
