"""What a worker follows beside its story: the items that change, and the bundles that a training writes."""

import asyncio
import logging

from model_server.holding import Holding
from model_server.items import ItemStore
from model_server.metrics import ModelMetrics
from model_server.scoring import RankerSource

log = logging.getLogger(__name__)


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
