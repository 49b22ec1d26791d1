"""What is asked about whole tables: how far every partition is applied, and who waits in the queues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from schemas.keys import Keys
from streams.service.redis import Client

Meta = Mapping[bytes, bytes]


class Waiting(NamedTuple):
    """The user of a queue whose deadline is the earliest; `priority` numbers the class."""

    user: str
    deadline_ms: int
    priority: int


class QueueLook(NamedTuple):
    """One partition's affected users: due, due later, held by model workers; `expired` are held past their lease."""

    partition: int
    due: int
    waiting: int
    leased: int
    expired: int
    oldest: Waiting | None


async def metas(client: Client, tags: Sequence[bytes]) -> list[Meta]:
    """The meta hash of each tag, empty where there is none."""
    pipe: Any = client.pipeline(transaction=False)
    for tag in tags:
        pipe.hgetall(Keys.meta(tag))
    found: list[Meta] = await pipe.execute() if tags else []
    return found


def fence(meta: Meta, topic: str) -> int | None:
    """Last offset applied of a topic, its base - 1 before the first, None where it was never initialised."""
    applied, base = meta.get(b"o:" + topic.encode()), meta.get(b"b:" + topic.encode())
    if applied is not None:
        return int(applied)
    return None if base is None else int(base) - 1


def truncated(meta: Meta, topic: str) -> int | None:
    """Where a topic's log ended when a worker found it truncated below what was applied, None where none did."""
    end = meta.get(b"t:" + topic.encode())
    return None if end is None else int(end)


def topic_id(meta: Meta, topic: str) -> str:
    """Id of the topic that a partition was built from, empty where it was never initialised."""
    return meta.get(b"i:" + topic.encode(), b"").decode()


def partitions(meta: Meta) -> int | None:
    """Partition count that a table was built over, None where it was never initialised."""
    return int(meta[b"n"]) if b"n" in meta else None


async def queues(client: Client, keys: Keys, numbers: Iterable[int], now_ms: int) -> list[QueueLook]:
    """The queues of user partitions at `now_ms`."""
    numbers = list(numbers)
    pipe: Any = client.pipeline(transaction=False)
    for number in numbers:
        tag = keys.user_tag(number)
        queue, leased = Keys.queue(tag), Keys.leased(tag)
        pipe.zcard(queue)
        pipe.zcount(queue, "-inf", now_ms * 4 + 3)
        pipe.zcard(leased)
        pipe.zcount(leased, "-inf", now_ms * 4)
        pipe.zrange(queue, 0, 0, withscores=True)
    replies = iter(await pipe.execute() if numbers else [])
    looks = []
    for number, queued, due, held, expired, first in zip(
        numbers, replies, replies, replies, replies, replies, strict=False
    ):
        looks.append(QueueLook(number, due, queued - due, held, expired, _waiting(first)))
    return looks


def _waiting(first: Sequence[tuple[bytes, float]]) -> Waiting | None:
    for user, score in first:
        return Waiting(user.decode("utf-8", "replace"), int(score) >> 2, int(score) & 3)
    return None
