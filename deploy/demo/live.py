"""The live part: events go out when they are due, acknowledgements enter the ledger, the board is kept up to date."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from aiokafka import AIOKafkaProducer

from deploy.demo.board import Board
from deploy.demo.gateway import Gateway
from deploy.demo.ledger import Ledger
from deploy.demo.screen import Screen
from deploy.demo.sources import Source
from schemas.topics import Topics
from streams.logs.logs import LogEvent

TICK_S = 0.02
SETTLE_S = 2.0
"""After the last event: the longest wait by design, and time to score."""
RATE_EVERY_S = 1.0


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


class Traffic:
    """One stretch of live traffic from a source through Kafka, watched through the gateway."""

    def __init__(
        self, source: Source, producer: AIOKafkaProducer, topics: Topics, ledger: Ledger, gateway: Gateway
    ) -> None:
        self._source, self._producer, self._topics = source, producer, topics
        self._ledger, self._gateway = ledger, gateway
        self._under_way: set[asyncio.Future[object]] = set()
        self._rates: deque[float] = deque(maxlen=20)
        self._failed: BaseException | None = None
        self.events = 0

    async def run(self, seconds: float, screen: Screen) -> None:
        """Send for `seconds`, then wait for the last answers. Raises what Kafka refused."""
        board = Board(total_s=seconds)
        began_s = rated_s = time.monotonic()
        self._source.go_live(now_ms())
        with screen.board(board.draw, board.line) as tell:
            while (elapsed_s := time.monotonic() - began_s) < seconds + SETTLE_S:
                if elapsed_s < seconds:
                    await self._send_due()
                if time.monotonic() - rated_s >= RATE_EVERY_S and elapsed_s < seconds:
                    rated_s += RATE_EVERY_S
                    self._rates.append(self._ledger.events_per_s(now_ms()))
                self._refresh(board, elapsed_s)
                tell()
                await asyncio.sleep(TICK_S)
            await self._producer.flush()
            await asyncio.gather(*self._under_way)
        if self._failed is not None:
            raise self._failed

    async def _send_due(self) -> None:
        for event in self._source.due(now_ms()):
            topic = getattr(self._topics, event.stream)
            sent = await self._producer.send(topic, key=event.key, value=event.value)
            self._under_way.add(sent)
            sent.add_done_callback(lambda future, event=event: self._acknowledged(future, event))
            self.events += 1

    def _acknowledged(self, future: asyncio.Future[object], event: LogEvent) -> None:
        self._under_way.discard(future)
        problem = future.exception()
        if problem is not None:
            self._failed = problem
            return
        self._ledger.acknowledged_live(event, time.time() * 1000)

    def _refresh(self, board: Board, elapsed_s: float) -> None:
        gateway, at_ms = self._gateway, now_ms()
        board.elapsed_s, board.events, board.rates = elapsed_s, self.events, list(self._rates)
        if elapsed_s < board.total_s:  # afterwards only the last answers come in
            board.events_per_s, board.rescored_per_s = self._ledger.events_per_s(at_ms), gateway.rescored_per_s(at_ms)
        board.rescored = gateway.rescored
        board.candidates, board.opened = gateway.candidates, self._ledger.of_kind("opened")
        board.waits_ms, board.beyond_ms = gateway.waits_ms, gateway.beyond_ms
        board.silence = gateway.silence.most_common()
        board.pushes = [(push, self._source.who(push.user_id, push.at_ms), push.title) for push in gateway.pushes]
