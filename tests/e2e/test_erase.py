"""Erasing and exporting a person on real servers: while events flow, with a worker, and into a rebuild."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from deploy.stack import Valkey
from schemas.keys import Keys
from schemas.partition import partition_of
from streams.service import namespaces
from streams.tables.redis_store import RedisStore
from streams.tables.store import Erasure
from tests.installation import Installation, Sent, events

pytestmark = pytest.mark.slow

ODD = 'Ünal {x}*?[bold] "q"'


async def run(installation: Installation, *command: str) -> Any:
    return await asyncio.to_thread(installation.run, *command)


def renamed(sent: list[Sent], old: str, new: str) -> list[Sent]:
    """The same records, one user under another name."""
    made = []
    for record in sent:
        assert record.event is not None
        user = new if record.event["user_id"] == old else str(record.event["user_id"])
        event = {**record.event, "user_id": user}
        made.append(Sent(record.topic, user.encode(), orjson.dumps(event), event))
    return made


@pytest.mark.timeout(300)
async def test_who_is_erased_while_events_flow_is_in_neither_the_rows_nor_a_rebuild(
    installation: Installation,
) -> None:
    live = installation
    worker = live.worker()
    await worker.ready()
    logs = [renamed(events(live.topics, 900, seed=seed), "u7", ODD) for seed in range(4)]
    await live.send(logs[0])
    await live.applied()
    async with live.redis() as redis:  # a run that is behind, and one that is only a name
        await redis.hset(Keys.runs(live.keys.namespace), mapping={"behind": b"{}", "named": b"{}"})
    sending = asyncio.create_task(_send_all(live, logs[1:2]))
    planned = await run(live, "erase", ODD)
    assert planned.returncode == 0, planned.stderr
    assert "This is the plan" in planned.stdout
    assert f"All that Redis keeps of user {ODD} goes" in planned.stdout
    assert f"{live.topics.clicks}" in planned.stdout
    assert "90 days" in planned.stdout
    done = await run(live, "erase", ODD, "--execute", "--json")
    assert done.returncode == 0, done.stderr
    told = orjson.loads(done.stdout)
    assert told["removed"][live.keys.namespace]["row_bytes"] > 0
    assert [each["initialised"] for each in told["plan"]["namespaces"]] == [True, False, False]
    await sending
    await _send_all(live, logs[2:])  # of the last two hours, hence of before the erasure
    await live.applied()
    await _is_gone(live)
    assert worker.metric("kairos_results_total") > 0
    again = await run(live, "erase", ODD, "--execute")
    assert again.returncode == 0
    assert f"Nothing is left of user {ODD} in Redis" in again.stdout
    assert "The user was erased" in (await run(live, "inspect", ODD)).stderr
    await _rebuild_without(live)


async def _rebuild_without(live: Installation) -> None:
    """Tables made by hand beside the live ones have neither the user nor another difference."""
    (folder := live.folder / "next").mkdir()
    rebuild = Installation(live.kafka, live.redis_url, live.topics.prefix, f"{live.keys.namespace}-next", folder)
    rebuild.env["KAIROS_GROUP"] = live.env["KAIROS_GROUP"]
    layout = ("--partitions", "4", "--item-partitions", "2", "--erased-from", live.keys.namespace)
    made = await run(rebuild, "topics", "create", *layout)
    assert "1 users of" in made.stdout
    rebuild.partitions, rebuild.item_partitions, rebuild.events = 4, 2, live.events
    try:
        await rebuild.worker().ready()
        await rebuild.applied()
        await _is_gone(rebuild)
        assert await rebuild._user_rows() == await live._user_rows()
        assert await rebuild._item_rows() == await live._item_rows()
    finally:
        rebuild.close()


async def _send_all(live: Installation, logs: list[list[Sent]]) -> None:
    for log in logs:
        for first in range(0, len(log), 300):
            await live.send(log[first : first + 300])


async def _is_gone(installation: Installation) -> None:
    """Everybody's rows are those of an oracle that never saw the user; item rows count the user still."""
    assert ODD not in await installation._user_rows()
    assert await installation.wrong_items() == {}
    everybody, installation.events = installation.events, [e for e in installation.events if e["user_id"] != ODD]
    assert await installation.wrong_users() == {}
    installation.events = everybody


async def test_an_erasure_that_was_killed_half_way_is_finished_by_the_next(installation: Installation) -> None:
    live, user = installation, b"u1"
    async with live.redis() as redis:
        store = RedisStore(redis)
        for name in (live.keys.namespace, f"{live.keys.namespace}-run"):
            await redis.hset(Keys.runs(live.keys.namespace), f"{live.keys.namespace}-run", b'{"mode": "shadow"}')
            for partition in range(4):
                await store.set_once(Keys(name).user_tag(partition), "n", "4")
            tag = Keys(name).user_tag(partition_of(user, 4))
            await redis.set(Keys.pushes(tag, user), b'[{"item": "i1", "dedup_key": "d1", "ts_ms": 1}]')
            await redis.set(Keys.shadow_pushes(tag, user), b"[]")
            await redis.zadd(Keys.queue(tag), {user: 8})
            await redis.zadd(Keys.leased(tag), {user: 8})
        await store.erase(live.keys.user_tag(partition_of(user, 4)), Erasure(user, 1_900_000_000_000, b"v", None))
        done = await run(live, "erase", "u1", "--execute", "--json", "--for-ever")
        assert done.returncode == 0, done.stderr
        told = orjson.loads(done.stdout)["removed"]
        assert told[live.keys.namespace]["pushes"] is False
        assert told[f"{live.keys.namespace}-run"] == {
            "row_bytes": 0,
            "pushes": True,
            "queued": True,
            "leased": True,
            "erased_ms": None,
        }
        for name in told:
            tag = Keys(name).user_tag(partition_of(user, 4))
            logs = Keys.pushes(tag, user), Keys.shadow_pushes(tag, user)
            assert await redis.exists(*logs, Keys.queue(tag), Keys.leased(tag)) == 0
            assert await redis.hget(Keys.erased(tag), user) == b"4102444800000"
        assert set(await namespaces.runs(redis, live.keys.namespace)) == {f"{live.keys.namespace}-run"}


async def test_of_an_unknown_user_a_tombstone_is_left(installation: Installation) -> None:
    done = await run(installation, "erase", "nobody", "--execute")
    assert done.returncode == 1
    assert "Nothing is known of user nobody. A tombstone will keep away what is still to come" in done.stdout
    assert "Nothing was known of user nobody. From now on what happened until" in done.stdout
    assert (await run(installation, "erase", "nobody", "--execute")).returncode == 0


async def test_an_export_is_all_that_is_kept(installation: Installation, tmp_path: Path) -> None:
    live = installation
    log = renamed(events(live.topics, 1_000), "u7", ODD)
    mine = [record.event for record in log if record.key == ODD.encode()]
    broken = Sent(live.topics.clicks, ODD.encode(), b"{no json")
    note = Sent(live.topics.decisions, ODD.encode(), b'{"user": "odd", "outcome": "held"}')
    await live.send([*log, broken, note])
    worker = live.worker()
    await worker.ready()
    await live.applied()
    out = tmp_path / "person.json"
    asked = await run(live, "export", ODD, "--out", str(out))
    assert asked.returncode == 0, asked.stderr
    assert f"What is kept of user {ODD}" in asked.stdout
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    document = orjson.loads(out.read_bytes())
    assert sorted(str(r["value"]["event_id"]) for r in document["events"] if "value" in r) == sorted(
        str(event["event_id"]) for event in mine if event
    )
    assert [r["value_base64"] for r in document["events"] if "value" not in r] == ["e25vIGpzb24="]
    assert [(r["reason"], r["attempt"]) for r in document["dead_letters"]] == [("json", 1)]
    assert [r["value"]["outcome"] for r in document["decisions"]] == ["held"]
    (rows,) = document["namespaces"]
    assert sum(rows["row"]["totals"].values()) == len(mine)
    assert rows["in_force"] == ["live", "serving"]
    assert rows["rescore"]["state"] == "queued"
    assert document["not_reached"] == {}
    nobody = await run(live, "export", "nobody", "--json")
    assert nobody.returncode == 1
    assert nobody.stderr.endswith("Nothing is kept of user nobody.\n")


async def test_what_an_export_cannot_reach_is_named(
    installation: Installation, make_valkey: Callable[..., Valkey]
) -> None:
    live = installation
    await live.send([Sent(live.topics.clicks, b"u1", b'{"user_id": "u1"}')])
    live.env["KAIROS_KAFKA"] = "127.0.0.1:1"
    asked = await run(live, "export", "u1", "--json")
    assert asked.returncode == 1
    assert set(orjson.loads(asked.stdout)["not_reached"]) == {"events", "candidates", "decisions", "dead_letters"}
    assert "Not whole: dead letters. " in asked.stderr
    assert "KAIROS_KAFKA" in asked.stderr
    planned = await run(live, "erase", "u1")
    assert planned.returncode == 0
    assert "How long is not known of" in planned.stdout
    live.env |= {"KAIROS_KAFKA": live.kafka, "KAIROS_REDIS": "redis://127.0.0.1:1/0"}
    asked = await run(live, "export", "u1", "--json")
    assert list(orjson.loads(asked.stdout)["not_reached"]) == ["namespaces"]
    assert len(orjson.loads(asked.stdout)["events"]) == 1
    refused = await run(live, "erase", "u1", "--execute")
    assert refused.returncode == 1
    assert "set KAIROS_REDIS to where it is" in refused.stderr
    live.env["KAIROS_REDIS"] = make_valkey().url
    refused = await run(live, "erase", "u1", "--execute")
    assert refused.returncode == 78
    assert "is not initialised in this Redis" in refused.stderr
    assert (await run(live, "erase", "")).returncode == 2
    assert (await run(live, "export", "a\nb")).returncode == 2
