"""`kairos why USER --now`: the user scored again as of now, and what the scores of the best items are owed to."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from model_server.attribution.owed import MOST_PAIRS, Owed, owed
from model_server.attribution.page import facts, page
from model_server.attribution.parts import Known
from model_server.bundle_watcher import BundleWatcher
from model_server.items import ItemArrays, ItemStore
from model_server.text.back_end import TextError
from model_server.text.library import Library, cache_folder
from schemas.faults import bad_ids
from schemas.keys import Keys
from schemas.partition import partition_of
from streams.features.blobs import UnreadableError
from streams.features.calendar import Calendar
from streams.features.declaration import DEFAULT, Declaration
from streams.features.features_file import load
from streams.features.items import ItemLayout
from streams.features.rows import Layout
from streams.service.addresses import redis_address
from streams.service.clock import Clock
from streams.service.namespaces import in_force
from streams.service.redis import Client, connect
from streams.service.trouble import TROUBLE, clause, passes, remedy
from streams.service.verb import BAD, GOOD, Telling

if TYPE_CHECKING:
    from model_server.scoring import Ranker, Scored
    from model_server.settings import WhyTools

NOT_THEN = (
    "No decision keeps what it was made from: this is the user, the items and the model as they are now, "
    "before the rules."
)


class NothingError(Exception):
    """There is nothing to tell; the sentence says why, and what to do."""


@dataclass(frozen=True)
class Standing:
    """A user, the items and the ranker as they are now."""

    namespace: str
    known: Known
    items: ItemArrays
    ranker: Ranker


async def why_now(read: WhyTools, user: str, telling: Telling, *, best: int, wanted: Sequence[str]) -> int:
    """Tell what the scores of the `best` first items of a user are owed to, or of the `wanted` ones (ids).

    Returns 0, or 1 after saying why there is nothing to tell.
    """
    telling.facts(user=user, items=[])
    declaration = DEFAULT if read.features is None else load(read.features)
    try:
        for _, _, sentence in bad_ids("user_id", [user]):
            raise NothingError(sentence)
        ranker = await asyncio.to_thread(_ranker, read, declaration)
        standing = await _standing(read, declaration, ranker, user, telling)
        scored, split = _split(standing, best, wanted, telling)
    except NothingError as error:
        telling.complain(str(error))
        return telling.end(BAD)
    except UnreadableError as error:
        telling.complain(f"User {user} cannot be scored here: {clause(error)}.")
        return telling.end(BAD)
    except TROUBLE as error:
        telling.complain(_trouble(read, error))
        return telling.end(BAD)
    _tell(standing, scored, split, telling)
    return telling.end(GOOD)


def _trouble(read: WhyTools, error: BaseException) -> str:
    where = redis_address(read.connections.redis)
    if not passes(error):
        return f"{where} refuses: {clause(error)}. {remedy(error)}"
    return f"{where} does not answer ({clause(error)}): start it, or set KAIROS_REDIS to where it is."


def _ranker(read: WhyTools, declaration: Declaration) -> BundleWatcher:
    """The ranker that a worker with these settings would serve with. Raises NothingError where it could not."""
    watcher = BundleWatcher(
        None if read.model_dir is None else Path(read.model_dir), declaration, read.device, read.text
    )
    try:
        watcher.poll()
    except (LookupError, ValueError, OSError) as error:
        message = f"The model in force cannot score here: {clause(error)}."
        raise NothingError(message) from error
    return watcher


async def _standing(
    read: WhyTools, declaration: Declaration, rankers: BundleWatcher, user: str, telling: Telling
) -> Standing:
    """Read what a worker would read. Raises NothingError, UnreadableError and what Redis raises."""
    client = connect(read.connections)
    try:
        keys = Keys((await in_force(client, read.connections.namespace)).serving)
        row, now_ms = await _row(client, keys, user), Clock()()
        store = ItemStore(client, keys, await _partitions(client, keys, keys.item_tag(0)), ItemLayout(declaration))
        await store.load()
    finally:
        await client.aclose()
    store.advance()
    _read_titles(read, rankers, store.arrays, telling)
    known = Known(Layout(declaration), Calendar(read.zone), store.arrays, user, row, now_ms)
    return Standing(keys.namespace, known, store.arrays, rankers.current())


async def _row(client: Client, keys: Keys, user: str) -> bytes:
    partition = partition_of(user.encode(), await _partitions(client, keys, keys.user_tag(0)))
    found: Any = await client.get(keys.row(keys.user_tag(partition), user.encode()))
    if found is None:
        message = f"Nothing is known of user {user} in namespace {keys.namespace}."
        raise NothingError(message)
    return bytes(found)


async def _partitions(client: Any, keys: Keys, tag: bytes) -> int:
    count = await client.hget(Keys.meta(tag), "n")
    if count is None:
        message = (
            f"Namespace {keys.namespace} is not initialised in this Redis: check KAIROS_REDIS and KAIROS_NAMESPACE, "
            "or run `kairos topics create`."
        )
        raise NothingError(message)
    return int(count)


def _read_titles(read: WhyTools, rankers: BundleWatcher, items: ItemArrays, telling: Telling) -> None:
    """Have the ranker know the titles of all items, where it reads them: from disk, else by the back end."""
    titles = rankers.titles()
    if titles is None:
        return
    library = Library(
        titles.projection.back_end, cache_folder(None if read.model_dir is None else Path(read.model_dir))
    )
    index = titles.wanted(items, len(items.ids))
    with telling.progress("Reading titles", len(index), "titles") as bar:
        try:
            raw = library.vectors([items.titles[at] for at in index], lambda more: bar.at(bar.done + more))
        except TextError as error:
            message = f"The titles that the model reads cannot be read: {clause(error)}."
            raise NothingError(message) from error
    titles.tell(items, index, raw)


def _split(standing: Standing, best: int, wanted: Sequence[str], telling: Telling) -> tuple[Scored, list[Owed]]:
    """The ranking, and what the scores asked for are owed to. Raises NothingError."""
    known, items = standing.known, standing.items
    scored = standing.ranker.score(known.requests, items, known.now_ms)
    index = [_index(standing, item) for item in wanted] or [at for at in scored.item[0].tolist() if at >= 0][:best]
    if not index:
        message = f"The model finds no item for user {known.user}: namespace {standing.namespace} holds none to offer."
        raise NothingError(message)
    most = 2 * MOST_PAIRS * len(known.parts)
    with telling.progress("Scoring the user with some of it unknown", most, "times") as bar:
        return scored, owed(standing.ranker, items, known, index, lambda more: bar.at(bar.done + more))


def _index(standing: Standing, item: str) -> int:
    try:
        return standing.items.index_of(item)
    except KeyError:
        message = f"No item {item} is known in namespace {standing.namespace}."
        raise NothingError(message) from None


def _tell(standing: Standing, scored: Scored, split: Sequence[Owed], telling: Telling) -> None:
    known, items, version = standing.known, standing.items, standing.ranker.version
    at = datetime.fromtimestamp(known.now_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    telling.page(f"As of {at}: model {version}, namespace {standing.namespace}.\n[dim]{NOT_THEN}[/]\n")
    places = {item: place for place, item in enumerate(scored.item[0].tolist(), 1) if item >= 0}
    told = []
    for each in split:
        name, title = items.ids[each.item], items.titles[each.item]
        place, final = places.get(each.item), 1 / (1 + math.exp(-each.logit))
        told.append({"item": name, "title": title or None, "place": place, "final": final, **facts(each)})
        where = f"place {place}" if place else "not among the best" if each.found else "found by no list now"
        telling.page(Text.assemble((name, "bold"), f"  {title}" if title else "", f"  final {final:.4g}, {where}"))
        telling.page(page(each))
    telling.facts(now_ms=known.now_ms, namespace=standing.namespace, model=version, items=told)
