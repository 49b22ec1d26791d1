"""`kairos model` and `kairos why` as processes: the untrained ranker serves, signals end well, workers share."""

import asyncio
import math
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from deploy.stack import Valkey
from schemas.items import Item, encode_item
from schemas.keys import Keys
from streams.features.declaration import DEFAULT
from tests.affected import QUIET, Shop, catalogue, open_shop, until, visits
from tests.contract.backends import client_of
from tests.installation import ROOT, Sent, events

STARTS_WITHIN_S = 60
RESCORES = {kind.wire for kind in DEFAULT.kinds if kind.priority is not None}


class Processes:
    """Starts commands of a shop's installation and kills what is left."""

    def __init__(self, shop: Shop) -> None:
        self.env = {**shop.installation.env, **QUIET}
        self.running: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, **env: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "deploy.cli", *arguments]
        process = subprocess.Popen(
            command, cwd=ROOT, env={**self.env, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.running.append(process)
        return process

    async def run(self, *arguments: str, **env: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **env)
        said, complained = await asyncio.to_thread(process.communicate, timeout=STARTS_WITHIN_S)
        return process.returncode, said, complained

    def close(self) -> None:
        for process in self.running:
            process.kill()
            process.communicate()


@pytest.fixture
async def shop(shop: Shop) -> Shop:
    await shop.list_items(*catalogue(20))
    return shop


@pytest.fixture
def processes(shop: Shop) -> Iterator[Processes]:
    started = Processes(shop)
    yield started
    started.close()


async def test_a_burst_serves_everybody_without_a_trained_model(shop: Shop, processes: Processes) -> None:
    users = [f"u{i}" for i in range(50)]
    await shop.affect(*visits(users), *[{"user_id": user, "item_id": "i3"} for user in users])
    code, _, complained = await processes.run(
        "model", "--drain", KAIROS_MIN_SCORE="0", KAIROS_MIN_GRADE="not_recommended"
    )
    assert code == 0, complained
    sent = await shop.sent()
    assert sorted(decision.user for decision in sent.decisions) == sorted(users)
    assert {decision.outcome for decision in sent.decisions} == {"sent"}
    assert (await shop.queued(), await shop.leased()) == ({}, 0)
    code, said, _ = await processes.run("why", "u7", "--json")
    assert code == 0
    told = orjson.loads(said)
    assert (told["user"], told["status"], {each["user"] for each in told["decisions"]}) == ("u7", 0, {"u7"})


async def test_a_user_scored_again_is_told_what_the_scores_are_owed_to(shop: Shop, processes: Processes) -> None:
    scene = {"device": "phone", "weather": "rain"}
    await shop.affect(*[{"user_id": "u1", "item_id": item, "scene": scene} for item in ("i3", "i3", "i5")])
    code, said, complained = await processes.run("why", "u1", "--now", "-n", "2", "--json")
    assert code == 0, complained
    told = orjson.loads(said)
    assert (told["user"], told["model"], told["namespace"]) == ("u1", "blend", shop.keys.namespace)
    assert [each["place"] for each in told["items"]] == [1, 2]
    assert told["items"][0]["item"] == "i3"
    for each in told["items"]:
        total = sum(share["share"] for share in each["shares"]) + sum(each["anybody"].values())
        assert total == pytest.approx(math.log(each["final"] / (1 - each["final"])), abs=1e-3)
        assert {share["name"] for share in each["shares"]} >= {"i3", "i5", "device", "weather", "hour"}
    code, said, _ = await processes.run("why", "u1", "--now", "--item", "i9")
    assert code == 0
    assert "i9" in said
    for user, options, wrong in (("u2", [], "Nothing is known of user u2"), ("u1", ["--item", "x"], "No item x")):
        code, said, complained = await processes.run("why", user, "--now", *options)
        assert (code, said) == (1, "")
        assert complained.startswith(wrong)


async def test_a_signal_ends_a_worker_well(shop: Shop, processes: Processes) -> None:
    worker = processes.start("model")
    await shop.affect(*visits(["u1"]))
    await until(lambda: _decided(shop, 1), STARTS_WITHIN_S)
    started_s = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    _, complained = await asyncio.to_thread(worker.communicate, timeout=20)
    assert worker.returncode == 0, complained
    assert time.monotonic() - started_s < 5


async def test_two_workers_share_the_users_and_one_that_is_killed_loses_none(shop: Shop, processes: Processes) -> None:
    env = {"KAIROS_LEASE_S": "2", "KAIROS_BATCH_USERS": "4"}
    doomed, other = processes.start("model", **env), processes.start("model", **env)
    users = [f"u{i}" for i in range(400)]
    for start in range(0, 400, 40):
        await shop.affect(*visits(users[start : start + 40]))
        if start == 200:
            await until(lambda: _decided(shop, 100), STARTS_WITHIN_S)
            doomed.kill()
    await until(lambda: _over(shop), STARTS_WITHIN_S)
    other.send_signal(signal.SIGTERM)
    await asyncio.to_thread(other.communicate, timeout=20)
    sent = await shop.sent()
    decided = Counter(decision.user for decision in sent.decisions)
    assert sorted(decided) == sorted(users)
    assert sum(decided.values()) <= len(users) + 16, "only what the killed worker had in hand may be decided twice"
    keys = Counter((candidate.user.id, candidate.dedup_key) for candidate in sent.candidates)
    assert len(keys) == len({user for user, _ in keys}), "a user scored twice has one dedup key"


async def test_redis_may_go_away_and_come_back(
    make_valkey: Callable[..., Valkey], kafka: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    valkey = make_valkey()
    async with open_shop(kafka, valkey.url, topic_prefix, namespace, tmp_path) as shop:
        await shop.list_items(*catalogue())
        async with shop.serving() as life:
            await shop.affect(*visits(["u1"]))
            await until(lambda: _decided(shop, 1))
            valkey.pause()
            await asyncio.sleep(6)
            assert "Redis (the queue)" in life.missing()
            valkey.resume()
            await shop.affect(*visits(["u2"]))
            await until(lambda: _decided(shop, 2))
            assert not life.missing()


async def test_events_in_kafka_become_candidates(shop: Shop, processes: Processes) -> None:
    installation = shop.installation
    await installation.send(
        [
            Sent(installation.topics.items, f"i{i}".encode(), encode_item(Item(f"i{i}", title=f"t{i}")))
            for i in range(60)
        ]
    )
    made = [sent for sent in events(installation.topics, 400) if b"opted-out" not in (sent.value or b"")]
    await installation.send(made)
    worker = installation.worker()
    await installation.applied()
    code, _, complained = await processes.run(
        "model", "--drain", KAIROS_MIN_SCORE="0", KAIROS_MIN_GRADE="not_recommended", KAIROS_MAX_LATE_S="86400"
    )
    assert code == 0, complained
    assert worker.term() == 0
    sent = await shop.sent()
    touched = {str(each.event["user_id"]) for each in made if each.event and each.event["kind"] in RESCORES}
    assert {decision.user for decision in sent.decisions} == touched
    assert len([d for d in sent.decisions if d.outcome == "sent"]) > len(touched) / 2
    assert {candidate.item.title for candidate in sent.candidates} <= {f"t{i}" for i in range(60)}


async def test_settings_that_cannot_be_are_all_named(processes: Processes) -> None:
    code, _, complained = await processes.run("model", KAIROS_SLOTS="9", KAIROS_BATCH_USERS="few")
    assert code == 78
    assert "KAIROS_SLOTS" in complained
    assert "KAIROS_BATCH_USERS" in complained


async def test_a_redis_that_evicts_or_refuses_the_login_is_refused(
    shop: Shop, processes: Processes, make_valkey: Callable[..., Valkey]
) -> None:
    evicting = make_valkey(config={"maxmemory-policy": "allkeys-lru"})
    async with client_of(evicting.url) as client:
        for tag in (shop.installation.keys.user_tag(0), shop.installation.keys.item_tag(0)):
            await client.hset(Keys.meta(tag), "n", 1)
    code, _, complained = await processes.run("model", KAIROS_REDIS=evicting.url)
    assert (code, "set `maxmemory-policy noeviction`" in complained) == (78, True), complained
    code, _, complained = await processes.run("model", KAIROS_REDIS_USERNAME="bob", KAIROS_REDIS_PASSWORD="wrong")
    assert (code, "Check KAIROS_REDIS_USERNAME and KAIROS_REDIS_PASSWORD" in complained) == (78, True), complained


async def _decided(shop: Shop, n: int) -> bool:
    return len((await shop.sent()).decisions) >= n


async def _over(shop: Shop) -> bool:
    return not await shop.queued() and await shop.leased() == 0
