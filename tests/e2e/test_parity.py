"""`kairos parity` as a command: its page, its JSON, its exit codes, and what it says where it cannot compare."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.contract.backends import client_of
from tests.contract.test_parity import USERS, Side, rows_of
from tests.installation import Installation


class Compared:
    """Two namespaces and the command over them."""

    def __init__(self, installation: Installation, a: Side, b: Side) -> None:
        self.installation, self.a, self.b = installation, a, b

    def run(self, *options: str, names: tuple[str, str] | None = None) -> Any:
        both = names or (self.a.keys.namespace, self.b.keys.namespace)
        return self.installation.run("parity", *both, *options)


@pytest.fixture
async def compared(redis_url: str, namespace: str, tmp_path: Path) -> AsyncIterator[Compared]:
    async with client_of(redis_url) as client:
        a, b = Side(client, f"{namespace}-a"), Side(client, f"{namespace}-b")
        await a.fill()
        await b.fill()
        yield Compared(Installation("127.0.0.1:1", redis_url, "", namespace, tmp_path), a, b)


async def test_equal_namespaces_end_well(compared: Compared) -> None:
    done = compared.run()
    a, b = compared.a.keys.namespace, compared.b.keys.namespace
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{a} and {b} stand at the same offsets.",
        f"✓ users  {USERS} compared, {USERS} equal, 0 different, 0 only in {a}, 0 only in {b}",
        f"✓ items  40 compared, 40 equal, 0 different, 0 only in {a}, 0 only in {b}",
        f"✓ catalogue  40 compared, 40 equal, 0 different, 0 only in {a}, 0 only in {b}",
        f"✓ {a} and {b} are equal",
    ]


async def test_a_difference_is_told_to_people_and_to_programs(compared: Compared) -> None:
    rows = rows_of(compared.b.users, USERS)[3:4]
    rows["totals"][0, 1] += 1
    await compared.b.client.set(compared.b.row("用户3"), compared.b.users.pack(rows)[0])
    page = compared.run()
    assert page.returncode == 1
    assert "1 different" in page.stdout
    assert "e.g. 用户3: totals.browse" in page.stdout
    told = orjson.loads(compared.run("--json").stdout)
    assert (told["equal"], told["status"]) == (False, 1)
    assert told["users"]["features"]["totals.browse"]["rows"] == 1
    assert told["users"]["examples"][0]["id"] == "用户3"


async def test_who_is_ahead_is_told_first(compared: Compared) -> None:
    await compared.b.client.hset(compared.b.keys.meta(compared.b.keys.user_tag(2)), "o:clicks", 40)
    first, second = compared.run().stdout.splitlines()[:2]
    assert first == f"! clicks: {compared.a.keys.namespace} is 59 records ahead"
    assert "--wait 10" in second


async def test_what_cannot_be_compared_is_refused_by_name(compared: Compared) -> None:
    nowhere = compared.run(names=(compared.a.keys.namespace, "nowhere"))
    assert nowhere.returncode == 78
    assert "Namespace nowhere is not initialised in this Redis" in nowhere.stderr
    told = orjson.loads(compared.run("--json", names=(compared.a.keys.namespace, "nowhere")).stdout)
    assert (told["status"], told["error"]) == (78, nowhere.stderr.strip())
    assert compared.run("--sample", "2/3").returncode == 2
    assert "2/3 is no share of the rows such as 1/64" in compared.run("--sample", "2/3").stderr
    assert compared.run(names=(compared.a.keys.namespace, "no:name")).returncode == 2
