"""Rows of two namespaces side by side, on one server and on a Cluster: what is equal, missing, extra and different."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schemas.keys import Keys
from schemas.partition import partition_of
from streams.features.declaration import DEFAULT, Window
from streams.features.features_file import merge
from streams.features.items import ItemLayout
from streams.features.rows import Layout
from streams.operations.comparing import Tally
from streams.operations.parity import Parity, ParityError, Sample, kinds

NEXT = merge(DEFAULT, {"windows": {"2h": "2h"}})
PARTITIONS, ITEM_PARTITIONS, USERS = 3, 2, 300


class NoBar:
    """Nobody watches."""

    def at(self, done: float, total: float | None = None) -> None:
        """Nothing is drawn."""


def rows_of(layout: Any, n: int, seed: int = 0) -> Any:
    rows, random = layout.empty(n), np.random.default_rng(seed)
    rows["schema"], rows["last_ms"], rows["first_ms"] = layout.schema, 1_700_000_000_000, 1_690_000_000_000
    rows["totals"][:, :3] = random.integers(1, 50, (n, 3))
    rows["windows"][:, :2, -1, :] = random.integers(0, 5, (n, 2, 12))
    return rows


class Side:
    """One namespace, filled with the same users and items as any other made here."""

    def __init__(self, client: Any, name: str, declaration: Any = DEFAULT) -> None:
        self.client, self.keys = client, Keys(name)
        self.users, self.items = Layout(declaration), ItemLayout(declaration)

    def row(self, user: str) -> bytes:
        return Keys.row(self.keys.user_tag(partition_of(user.encode(), PARTITIONS)), user.encode())

    def item_tag(self, item: str) -> bytes:
        return self.keys.item_tag(partition_of(item.encode(), ITEM_PARTITIONS))

    async def fill(self) -> None:
        for partition in range(PARTITIONS):
            meta = {"n": PARTITIONS, "b:clicks": 0, "o:clicks": 99}
            await self.client.hset(Keys.meta(self.keys.user_tag(partition)), mapping=meta)
        for partition in range(ITEM_PARTITIONS):
            await self.client.hset(Keys.meta(self.keys.item_tag(partition)), "n", ITEM_PARTITIONS)
        for i, blob in enumerate(self.users.pack(rows_of(self.users, USERS))):
            await self.client.set(self.row(f"用户{i}"), blob)
        for i, blob in enumerate(self.items.pack(rows_of(self.items, 40))):
            await self.client.hset(Keys.item_rows(self.item_tag(f"i{i}")), f"i{i}", blob)
            await self.client.hset(Keys.catalogue(self.item_tag(f"i{i}")), f"i{i}", b'{"item_id":"i%d"}' % i)
        # Keys that only look like a row's.
        await self.client.set(Keys.pushes(self.keys.user_tag(0), b"a}:u:b"), b"[]")


async def compared(client: Any, a: Side, b: Side, *, of: int = 1, wait_s: float = 0.0) -> dict[str, Tally]:
    declarations = {each.schema: each for each in (DEFAULT, NEXT)}
    parity = Parity(client, a.keys.namespace, b.keys.namespace, declarations, Sample(of), wait_s)
    await parity.counts()
    return {kind.name: await parity.compare(kind, NoBar()) for kind in kinds(client, ITEM_PARTITIONS)}  # type: ignore[arg-type]


@pytest.fixture
async def sides(client: Any, namespace: str) -> tuple[Side, Side]:
    a, b = Side(client, f"{namespace}-a"), Side(client, f"{namespace}-b")
    await a.fill()
    await b.fill()
    return a, b


async def test_the_same_rows_are_equal(client: Any, sides: tuple[Side, Side]) -> None:
    found = await compared(client, *sides)
    assert {name: (t.compared, t.equal, t.good) for name, t in found.items()} == {
        "users": (USERS, USERS, True),
        "items": (40, 40, True),
        "catalogue": (40, 40, True),
    }
    some = await compared(client, *sides, of=4)
    assert 0 < some["users"].compared < USERS / 2
    assert some["users"].good


async def test_what_differs_is_counted_by_feature_with_an_example(client: Any, sides: tuple[Side, Side]) -> None:
    _, b = sides
    changed = rows_of(b.users, USERS)[:1]
    changed["totals"][0, 0] = 3 * changed["totals"][0, 0]
    await client.set(b.row("用户0"), b.users.pack(changed)[0])
    await client.delete(b.row("用户1"))
    await client.set(b.row("new"), b.users.pack(changed)[0])
    await client.hset(Keys.catalogue(b.item_tag("i3")), "i3", b"{}")
    found = await compared(client, *sides)
    users = found["users"]
    assert (users.compared, users.equal) == (USERS + 1, USERS - 2)
    assert (users.different, users.missing, users.extra, users.good) == (1, 1, 1, False)
    assert {name: apart.rows for name, apart in users.features.items()} == {"totals.click": 1}
    assert users.features["totals.click"].smape == pytest.approx(100.0)
    examples = {example["id"]: example for example in users.examples}
    before = int(rows_of(b.users, USERS)["totals"][0, 0])
    assert examples["用户0"]["features"] == {"totals.click": [before, 3 * before]}
    assert examples["用户1"]["only_in"] == sides[0].keys.namespace
    assert examples["new"]["only_in"] == b.keys.namespace
    assert (found["items"].good, found["catalogue"].different) == (True, 1)


async def test_one_that_only_lags_is_equal_after_a_while(client: Any, sides: tuple[Side, Side]) -> None:
    import asyncio

    _, b = sides
    await client.delete(b.row("用户5"))

    async def arrive() -> None:
        await asyncio.sleep(0.5)
        await client.set(b.row("用户5"), b.users.pack(rows_of(b.users, USERS))[5])

    arriving = asyncio.create_task(arrive())
    assert (await compared(client, *sides, wait_s=3.0))["users"].good
    await arriving


async def test_other_declarations_are_compared_in_what_both_have(client: Any, namespace: str) -> None:
    a, b = Side(client, f"{namespace}-a"), Side(client, f"{namespace}-b", NEXT)
    await a.fill()
    await b.fill()
    rows = rows_of(b.users, USERS)
    rows["totals"][7, 1] += 1
    await client.set(b.row("用户7"), b.users.pack(rows)[7])
    found = await compared(client, a, b)
    users = found["users"]
    assert (users.compared, users.equal, users.different) == (USERS, USERS - 1, 1)
    assert set(users.features) == {"totals.browse"}
    only_a, only_b = users.only["features"]
    assert only_a == []
    assert "windows.click.2h" in only_b
    assert Window("2h", 7_200_000) in NEXT.windows


async def test_namespaces_that_cannot_be_compared_are_named(client: Any, sides: tuple[Side, Side]) -> None:
    a, b = sides
    parity = Parity(client, a.keys.namespace, "nowhere", {}, Sample(), 0.0)
    with pytest.raises(ParityError, match="Namespace nowhere is not initialised"):
        await parity.counts()
    await client.set(b.row("用户0"), b"\x01\x02\x03\x04" + b"\0" * 100)
    with pytest.raises(ParityError, match=rf"Rows of namespace {b.keys.namespace} have schema 67305985"):
        await compared(client, a, b)
    await client.hset(Keys.meta(b.keys.user_tag(0)), "n", 4)
    with pytest.raises(ParityError, match="differ in their partitions"):
        await compared(client, a, b)


async def test_the_fences_say_who_is_ahead(client: Any, sides: tuple[Side, Side]) -> None:
    a, b = sides
    await client.hset(Keys.meta(b.keys.user_tag(1)), "o:clicks", 90)
    parity = Parity(client, a.keys.namespace, b.keys.namespace, {}, Sample(), 0.0)
    assert await parity.fences() == {"clicks": (9, 0)}
