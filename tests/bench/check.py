"""Compares what Kairos left in Redis with the oracles: all rows of the reference work, a sample and all sums else."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import orjson
import redis
from numpy.typing import NDArray

from schemas.keys import Keys
from streams.features.columns import item_code
from streams.features.declaration import DEFAULT
from streams.features.features_file import load
from streams.features.items import ItemLayout
from streams.features.rows import Layout, Rows
from streams.testing import oracle
from tests.bench.expected import Users, users_of
from tests.bench.installation import REFERENCE, Installation
from tests.bench.reference import HISTORY
from tests.bench.traffic import WIRE, Traffic

SAMPLED_USERS, SAMPLED_ITEMS = 200, 20


class WrongRowsError(AssertionError):
    """Rows differ from the oracle: a figure measured on wrong work is none."""


def check_reference(rows: Mapping[str, bytes], traffic: Traffic) -> None:
    """Compare every user's row with the whole history. Raises WrongRowsError."""
    layout, expected = Layout(load(REFERENCE)), users_of(traffic)
    names = list(map(str, expected.user.tolist()))
    if set(names) != set(rows):
        raise WrongRowsError(_differ(len(set(names) ^ set(rows)), "users are missing or should not be there"))
    found = layout.unpack([rows[name] for name in names])
    kinds = [k.wire for k in layout.declaration.window_kinds]
    order = [kinds.index(word) for word in ("browse", "click")]
    same = (
        (found["last_ms"] == expected.last_ms)
        & (found["first_ms"] == expected.first_ms)
        & (found["totals"].sum(1) == expected.events)
        & (found["windows"][:, order] == expected.windows).all((1, 2, 3))
        & _same_history(found, layout, traffic)
        & _same_scene(found, traffic, expected)
    )
    if not same.all():
        raise WrongRowsError(_differ(int((~same).sum()), f"rows of {len(same)} are not what the history says"))


def check_everything(installation: Installation, client: redis.Redis, traffic: Traffic) -> None:
    """Compare the sums of all user and item rows, and a sample of whole rows. Raises WrongRowsError."""
    rows = installation.rows(client)
    layout, names = Layout(DEFAULT), list(rows)
    found = layout.unpack([rows[name] for name in names])
    items = _item_rows(installation, client)
    item_layout = ItemLayout(DEFAULT)
    item_found = item_layout.unpack([*items.values()])
    counts = {word: int((traffic.kind == code).sum()) for code, word in enumerate(WIRE)}
    _same_sums("user", [counts.get(k.wire, 0) for k in DEFAULT.kinds], found)
    _same_sums("item", [counts[k.wire] for k in DEFAULT.item_kinds], item_found)
    some = np.random.default_rng(1).choice(np.unique(traffic.user), SAMPLED_USERS, replace=False)
    mine = [orjson.loads(v) for v in traffic.only(np.isin(traffic.user, some)).values()]
    wrong = [u for u, e in oracle.user_rows(mine).items() if oracle.difference(e, found[names.index(u)])]
    few = np.unique(traffic.item)[-SAMPLED_ITEMS:]
    mine = [orjson.loads(v) for v in traffic.only(np.isin(traffic.item, few)).values()]
    known = list(items)
    wrong += [i for i, e in oracle.item_rows(mine).items() if oracle.difference(e, item_found[known.index(i)])]
    if wrong:
        raise WrongRowsError(_differ(len(wrong), f"sampled rows are not what the oracle says, such as {wrong[0]}"))


def _same_history(found: Rows, layout: Layout, traffic: Traffic) -> NDArray[np.bool_]:
    """Which users, sorted by id, have exactly their newest entries by (second, kind, stay, page, device, item)."""
    declaration = layout.declaration
    kind = np.array([declaration.code_of_wire.get(word, 0) for word in WIRE], np.uint64)[traffic.kind]
    second = (traffic.ts_ms // 1000).astype(np.uint64)
    stay = (1 + np.floor(np.log2(1 + traffic.dwell_ms // 1000))).astype(np.uint64)
    scene = (traffic.scene + 1).astype(np.uint64)
    key = second << np.uint64(32) | kind << np.uint64(24) | stay << np.uint64(16) | scene
    codes = np.array([item_code(str(i)) for i in range(int(traffic.item.max()) + 1)], np.uint64)
    item = codes[traffic.item]
    order = np.lexsort((item, key, traffic.user))
    _, starts, size = np.unique(traffic.user[order], return_index=True, return_counts=True)
    kept = np.minimum(size, HISTORY)
    slot = np.arange(HISTORY)
    held = slot < kept[:, None]
    at = order[np.where(held, (starts + size - kept)[:, None] + slot, 0)]
    entries = found["history"]
    same = ~held | ((entries["key"] == key[at]) & (entries["item"] == item[at]))
    return np.asarray((found["history_n"] == kept) & same.all(1))


def _same_scene(found: Rows, traffic: Traffic, expected: Users) -> NDArray[np.bool_]:
    """Which users have the scene of their newest event, the largest of several at the same time."""
    order = np.lexsort((traffic.scene, traffic.ts_ms, traffic.user))
    last = np.searchsorted(traffic.user[order], expected.user, side="right") - 1
    return np.asarray(found["scene"][:, 0] == traffic.scene[order][last] + 1)


def _same_sums(what: str, wanted: list[int], found: Rows) -> None:
    counted = found["totals"].sum(0).tolist()
    if counted != wanted:
        raise WrongRowsError(
            _differ(abs(sum(counted) - sum(wanted)), f"events more or less in the {what} rows: {counted}")
        )


def _item_rows(installation: Installation, client: redis.Redis) -> dict[str, bytes | None]:
    rows: dict[str, bytes | None] = {}
    for partition in range(installation.item_partitions):
        tag = Keys(installation.namespace).item_tag(partition)
        found = cast("dict[bytes, bytes]", client.hgetall(Keys.item_rows(tag).decode()))
        rows |= {item.decode(): row for item, row in found.items()}
    return rows


def _differ(count: int, what: str) -> str:
    return f"{count} {what}"
