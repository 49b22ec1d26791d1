"""Vectors of titles in a real Valkey: one worker reads a title, the others take what it found, all of it expires."""

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_server.items import ItemStore
from model_server.text.at_hand import LiveTitles
from model_server.text.back_end import TextError, keys_of
from model_server.text.following import TitleReader, follow_titles
from model_server.text.library import WIDTH
from model_server.text.projection import Projection
from model_server.text.shelf import CLAIM_S, KEPT_S, SHARDS, Shelf
from schemas.items import Item, encode_item
from schemas.keys import Keys
from streams.features.declaration import DEFAULT
from streams.features.items import ItemLayout
from tests.affected import until
from tests.titled import NAME, Words, library, title

TITLES = [title(n) for n in range(30)]


def key_of(namespace: str, text: str) -> bytes:
    (key,) = keys_of([text]).tolist()
    return Keys.title_vector(Keys(namespace).title_tag(key % SHARDS), NAME.encode(), key)


async def read_all(reader: TitleReader, titles: list[str]) -> dict[int, Any]:
    """Vectors by place."""
    found: dict[int, Any] = {}
    async for places, vectors in reader.read(titles):
        found |= dict(zip(places.tolist(), vectors, strict=True))
    return found


async def test_one_worker_reads_and_the_other_takes(client: Any, namespace: str, tmp_path: Path) -> None:
    shelf, words, others = Shelf(client, namespace, NAME, WIDTH), Words(), Words()
    titles = [*TITLES, "", TITLES[3]]
    first = await read_all(TitleReader(library(tmp_path / "a", words), shelf), titles)
    second = await read_all(TitleReader(library(tmp_path / "b", others), shelf), titles)
    assert (sorted(words.read), others.read) == (sorted(TITLES), [])
    assert sorted(first) == sorted(second) == list(range(32))
    for place, vector in first.items():
        assert second[place].tolist() == vector.tolist()
    assert not first[30].any()
    assert first[31].tolist() == first[3].tolist()


async def test_two_workers_at_the_same_time_read_each_title_once(client: Any, namespace: str, tmp_path: Path) -> None:
    words, shelf = [Words(), Words()], Shelf(client, namespace, NAME, WIDTH)
    readers = [TitleReader(library(tmp_path / f"{n}", each), shelf) for n, each in enumerate(words)]
    parts = await asyncio.gather(*(read_all(reader, TITLES) for reader in readers))
    assert sorted(words[0].read + words[1].read) == sorted(TITLES)
    assert sorted([*parts[0], *parts[1]]) >= list(range(30))
    again = [await read_all(reader, TITLES) for reader in readers]
    assert [len(part) for part in again] == [30, 30]
    assert len(words[0].read + words[1].read) == 30


async def test_vectors_and_claims_expire(client: Any, namespace: str) -> None:
    shelf, keys = Shelf(client, namespace, NAME, WIDTH), keys_of(["red mug"])
    assert (await shelf.get(keys)).ours.tolist() == [True]
    assert 0 < await client.ttl(key_of(namespace, "red mug")) <= CLAIM_S
    assert [part.tolist() for part in ((await shelf.get(keys)).ours, (await shelf.get(keys)).there)] == [[False]] * 2
    await shelf.put(keys, np.ones((1, WIDTH), np.float32))
    assert CLAIM_S < await client.ttl(key_of(namespace, "red mug")) <= KEPT_S
    assert await client.strlen(key_of(namespace, "red mug")) == 2 * WIDTH


async def test_a_claim_that_ran_out_is_taken_over(client: Any, namespace: str, tmp_path: Path) -> None:
    shelf, keys = Shelf(client, namespace, NAME, WIDTH), keys_of(["red mug"])
    await shelf.get(keys)
    reader = TitleReader(library(tmp_path), shelf)
    assert await read_all(reader, ["red mug"]) == {}
    await client.unlink(key_of(namespace, "red mug"))
    assert list(await read_all(reader, ["red mug"])) == [0]


async def test_what_is_no_vector_is_left_to_expire(client: Any, namespace: str, tmp_path: Path) -> None:
    await client.set(key_of(namespace, "red mug"), b"xyz", ex=60)
    assert await read_all(TitleReader(library(tmp_path), Shelf(client, namespace, NAME, WIDTH)), ["red mug"]) == {}


async def test_another_back_end_has_keys_of_its_own(client: Any, namespace: str, tmp_path: Path) -> None:
    await read_all(TitleReader(library(tmp_path), Shelf(client, namespace, NAME, WIDTH)), ["red mug"])
    other = Shelf(client, namespace, "words-2", WIDTH)
    assert (await other.get(keys_of(["red mug"]))).ours.tolist() == [True]


class Ranking:
    """A source of rankers that reads titles."""

    def __init__(self, told: LiveTitles) -> None:
        self.told = told

    def titles(self) -> LiveTitles:
        return self.told


def entered(store: ItemStore, **titles: str) -> None:
    store.arrays.put({name: (None, encode_item(Item(name, title=text))) for name, text in titles.items()})


async def known(told: LiveTitles, store: ItemStore, *expected: bool) -> None:
    """Wait until exactly these items have vectors."""

    async def as_expected() -> bool:
        return [bool(vector.any()) for vector in told.at(store.arrays).vectors] == list(expected)

    await until(as_expected)


async def test_titles_are_followed_and_a_back_end_that_is_away_ends_nothing(
    client: Any, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words, waiting, tries = Words(), list[int](), count()
    store = ItemStore(client, Keys(namespace), 1, ItemLayout(DEFAULT))
    told = LiveTitles(Projection(NAME, np.zeros(WIDTH, np.float32), np.eye(WIDTH, dtype=np.float32)))

    def reader_of(back_end: str) -> TitleReader:
        if next(tries) < 3:
            text = f"{back_end} is away"
            raise TextError(text)
        return TitleReader(library(tmp_path, words), Shelf(client, namespace, back_end, WIDTH))

    async def soon(*expected: bool) -> None:
        await known(told, store, *expected)

    source: Any = Ranking(told)
    entered(store, a="red mug", b="", c="blue rug")
    following = asyncio.create_task(follow_titles(source, store, reader_of, waiting.append, every_s=0.01))
    await soon(True, False, True)
    before = told.at(store.arrays).vectors.copy()
    entered(store, c="old clock", d="red mug")
    await soon(True, False, True, True)

    async def another_title() -> bool:
        return bool((told.at(store.arrays).vectors[2] != before[2]).any())

    await until(another_title)
    assert told.at(store.arrays).vectors[3].tolist() == before[0].tolist()
    entered(store, a="")
    await soon(False, False, True, True)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert sorted(words.read) == ["blue rug", "old clock", "red mug"]
    assert len([line for line in caplog.messages if "words-1 is away" in line]) == 1
    assert waiting[-1] == 0
