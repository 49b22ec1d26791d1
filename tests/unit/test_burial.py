"""Of several namespaces that fold one log the live one sends the dead letters: none is lost, none is sent by both."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.keys import Keys
from streams import burial
from streams.burial import Burial
from streams.pipeline import Rejected
from streams.tables.weather import Weather

TOPIC, RECORDS = "events.clicks.v1", 12


class Record(NamedTuple):
    offset: int
    key: bytes | None = None
    value: bytes | None = b"{"
    timestamp: int = 0
    headers: Sequence[tuple[str, bytes]] = ()


class Hashes(dict[bytes, dict[bytes, bytes]]):
    """The part of a Redis client that is asked here."""

    async def hgetall(self, key: bytes | str) -> dict[bytes, bytes]:
        return dict(self.get(key.encode() if isinstance(key, str) else key, {}))

    async def hget(self, key: bytes | str, field: str) -> bytes | None:
        return (await self.hgetall(key)).get(field.encode())

    def pipeline(self, *, transaction: bool) -> Any:
        hashes, asked = self, list[bytes]()

        class Pipe:
            def hgetall(self, key: bytes) -> None:
                asked.append(key)

            async def execute(self) -> list[dict[bytes, bytes]]:
                return [await hashes.hgetall(key) for key in asked]

        return Pipe()


class Shop:
    """An installation `main` with a run beside it, both built from one log; `sent` counts letters by offset."""

    def __init__(self) -> None:
        self.redis: Any = Hashes()
        self.sent: Counter[int] = Counter()
        self.force(live="main")
        for name in ("main", "run"):
            self.redis[self._meta(name)] = {f"i:{TOPIC}".encode(): b"id", f"b:{TOPIC}".encode(): b"0"}

    @staticmethod
    def _meta(name: str) -> bytes:
        return Keys.meta(Keys(name).user_tag(0))

    def force(self, **words: str) -> None:
        self.redis[Keys.installation("main")] = {name.encode(): word.encode() for name, word in words.items()}

    def applies(self, name: str, offset: int) -> None:
        self.redis[self._meta(name)][f"o:{TOPIC}".encode()] = b"%d" % offset

    def fence(self, name: str) -> int:
        return int(self.redis[self._meta(name)].get(f"o:{TOPIC}".encode(), b"-1"))

    async def send(self, letters: Sequence[Rejected]) -> None:
        self.sent.update(letter.record.offset for letter in letters)

    def burial(self, name: str) -> Burial:
        return Burial(self, self.redis, name, "main", Keys.user_tag, Weather())


def letter(offset: int) -> Rejected:
    return Rejected(TOPIC, 0, Record(offset), "json", "It is no JSON.")


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setattr(burial, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(burial, "LONGEST_PAUSE_S", 0.001)
    return Shop()


async def waits(sending: asyncio.Task[None]) -> bool:
    await asyncio.sleep(0.01)
    return not sending.done()


async def test_a_follower_waits_for_the_live_namespace_and_sends_nothing(shop: Shop) -> None:
    following = asyncio.create_task(shop.burial("run").send([letter(3), letter(5)]))
    assert await waits(following)
    await shop.burial("main").send([letter(3)])
    shop.applies("main", 4)
    assert await waits(following)
    shop.applies("main", 5)
    await following
    assert shop.sent == {3: 1}


async def test_only_what_was_sent_here_is_counted_here(shop: Shop) -> None:
    live, run = shop.burial("main"), shop.burial("run")
    following = asyncio.create_task(run.send([letter(3), letter(5)]))
    await live.send([letter(3)])
    shop.applies("main", 3)
    assert await waits(following)
    shop.force(live="run", previous="main")
    await following
    assert (live.sent, run.sent) == ({"json": 1}, {"json": 1})
    assert shop.sent == {3: 1, 5: 1}


async def test_a_follower_that_comes_into_force_sends_what_nobody_has_applied(shop: Shop) -> None:
    following = asyncio.create_task(shop.burial("run").send([letter(3), letter(5)]))
    shop.applies("main", 4)
    assert await waits(following)
    shop.force(live="run", origin="main", target="run", step="moving")
    await following
    assert shop.sent == {5: 1}


@pytest.mark.parametrize("words", [{"origin": "main"}, {"previous": "main"}], ids=["moving", "moved"])
async def test_the_live_namespace_sends_nothing_that_the_one_before_it_has_applied(
    shop: Shop, words: dict[str, str]
) -> None:
    shop.force(live="run", **words)
    shop.applies("main", 4)
    await shop.burial("run").send([letter(2), letter(4), letter(5)])
    assert shop.sent == {5: 1}


async def test_who_alone_reads_a_log_sends_its_letters(shop: Shop) -> None:
    shop.redis[Shop._meta("main")][f"i:{TOPIC}".encode()] = b"the topic before this one"
    shop.applies("main", 100)
    await shop.burial("run").send([letter(3)])
    assert shop.sent == {3: 1}


async def test_a_run_that_is_worked_on_by_its_own_name_is_a_follower_too(shop: Shop) -> None:
    shop.redis[Keys.installation("run")] = {b"beside": b"main"}
    own = Burial(shop, shop.redis, "run", "run", Keys.user_tag, Weather())
    following = asyncio.create_task(own.send([letter(3)]))
    assert await waits(following)
    shop.applies("main", 3)
    await following
    assert shop.sent == {}


async def test_a_long_wait_is_told_and_over_when_it_ends(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burial, "PATIENCE_S", 0)
    run = shop.burial("run")
    following = asyncio.create_task(run.send([letter(3)]))
    assert await waits(following)
    assert run.waits.startswith(f"Offset 3 of {TOPIC}:0 is a dead letter, which namespace main has yet to send")
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert run.waits == ""


class Played(Shop):
    """Workers of both namespaces over a log all of whose odd records are bad, one record a step."""

    async def step(self, name: str, *, dies: bool) -> None:
        offset = self.fence(name) + 1
        if offset >= RECORDS:
            return
        if offset % 2:
            ours, left, _ = await self.burial(name)._judged([letter(offset)])
            await self.send(ours)
            if left:
                return  # it waits
        if not dies:
            self.applies(name, offset)

    async def play(self, steps: Sequence[str]) -> None:
        live, other = "main", "run"
        for step in [*steps, *["live"] * RECORDS * 2]:
            if step == "promotion":
                live, other = other, live
                self.force(live=live, origin=other, target=live, step="moving")
            elif step == "its end":
                self.force(live=live, previous=other)
            else:
                await self.step(live if step.startswith("live") else other, dies=step.endswith("dies"))


ENDINGS = ["live", "other", "promotion", "its end"]


@given(st.lists(st.sampled_from(ENDINGS), max_size=60))
def test_every_letter_is_sent_once_whoever_is_ahead_and_whenever_one_is_promoted(steps: list[str]) -> None:
    shop = Played()
    asyncio.run(shop.play(steps))
    assert shop.sent == dict.fromkeys(range(1, RECORDS, 2), 1)


@given(st.lists(st.sampled_from([*ENDINGS, "live dies", "other dies"]), max_size=60))
def test_no_letter_is_lost_whoever_is_killed(steps: list[str]) -> None:
    shop = Played()
    asyncio.run(shop.play(steps))
    assert set(shop.sent) == set(range(1, RECORDS, 2))
