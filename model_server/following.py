"""What a worker follows beside its story: items that change, their titles, and the bundles that a training writes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING

from model_server.holding import Holding
from model_server.items import ItemStore
from model_server.metrics import ModelMetrics
from model_server.scoring import RankerSource
from model_server.text.following import TitleReader, follow_titles
from model_server.text.library import WIDTH, Library, cache_folder
from model_server.text.shelf import Shelf

if TYPE_CHECKING:
    from model_server.rescoring import Parts

log = logging.getLogger(__name__)


def followers(parts: Parts, holding: Holding) -> tuple[Coroutine[None, None, None], ...]:
    """All that is followed, each for ever."""
    settings, metrics = parts.settings, parts.metrics
    folder = cache_folder(None if settings.model_dir is None else Path(settings.model_dir))

    def reader_of(back_end: str) -> TitleReader:
        shelf = Shelf(parts.redis, settings.connections.namespace, back_end, WIDTH)
        return TitleReader(Library(back_end, folder), shelf)

    return (
        follow_items(parts.items, holding, metrics, settings.item_poll_ms / 1000),
        follow_bundles(parts.rankers, metrics, settings.reload_s),
        follow_titles(parts.rankers, parts.items, reader_of, metrics.titles_waiting.set),
    )


async def follow_items(items: ItemStore, holding: Holding, metrics: ModelMetrics, every_s: float) -> None:
    """Collect what changed of the items, for ever."""
    while True:
        poll = await holding.ride("the items", items.poll)
        metrics.items_read(len(items.arrays.ids), poll)
        await asyncio.sleep(every_s)


async def follow_bundles(rankers: RankerSource, metrics: ModelMetrics, every_s: float) -> None:
    """Take over newer bundles, for ever; one that cannot serve leaves the old one in place."""
    while True:
        await asyncio.sleep(every_s)
        await look_for_bundle(rankers, metrics)


async def look_for_bundle(rankers: RankerSource, metrics: ModelMetrics) -> None:
    """Take over a newer bundle if there is one that can serve."""
    try:
        version = await asyncio.to_thread(rankers.poll)
    except (LookupError, ValueError, OSError) as error:
        log.warning("A new bundle cannot serve, the old one stays: %s", error)
        metrics.reloads.labels("failed").inc()
    else:
        if version is not None:
            log.info("The model is now %s", version)
            metrics.reloads.labels("changed").inc()
            metrics.serving(version)
