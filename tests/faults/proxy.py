"""A TCP proxy before Redis: speaks TLS for it, loses replies after the call was executed, cuts requests in half."""

from __future__ import annotations

import asyncio
import ssl
import threading
from random import Random
from typing import Self

from deploy.stack import ports

CHUNK_BYTES = 65_536


class Proxy:
    """Runs in a thread of its own; with `tls` it speaks that to its callers.

    While `trouble` is above zero, that share of the exchanges is cut. lost: replies thrown away after the server had
    executed the call; halved: requests cut before their end.
    """

    def __init__(self, target_port: int, seed: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        self.port, self._target, self._tls = ports.free_port(), target_port, tls
        self.trouble = 0.0
        self.lost = self.halved = 0
        self._random = Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        serving = asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        exchange = _Exchange(self)
        ways = [
            asyncio.create_task(exchange.requests(reader, back)),
            asyncio.create_task(exchange.replies(there, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, back):
                end.close()

    def strikes(self) -> bool:
        return self.trouble > 0 and self._random.random() < self.trouble


class _Exchange:
    """One connection: requests one way, replies the other; ends as soon as either way does."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    async def requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if len(data) > 2 and self.proxy.strikes():
                self.proxy.halved += 1
                writer.write(data[: len(data) // 2])
                await writer.drain()
                return
            writer.write(data)
            await writer.drain()

    async def replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self.proxy.strikes():
                self.proxy.lost += 1
                return
            writer.write(data)
            await writer.drain()
