"""The model worker on real Kafka and Valkey: from affected users to candidates, decisions and push logs."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.stack import Broker, ValkeyCluster
from model_server.scoring import ItemState, Requests, Scored
from schemas import decisions, recommendations
from schemas.items import Item
from streams.features.columns import item_code
from streams.operations.erasing import Eraser
from tests.affected import Popular, Shop, Source, catalogue, now_ms, open_shop, until, visits

HOUR_MS = 3_600_000


async def test_a_click_becomes_a_candidate_a_gateway_can_send(shop: Shop) -> None:
    await shop.list_items(*catalogue())
    scene = {"zone": "Asia/Tokyo", "locale": "ja-JP"}
    await shop.affect({"user_id": "u1", "item_id": "x", "kind": "click", "scene": scene})
    before_ms = now_ms()
    await shop.drain()
    (candidate,), (decision,), (record,) = await shop.sent()
    assert (candidate.status, candidate.mode, candidate.slot) == ("new", "live", 0)
    assert candidate.relevance == pytest.approx(0.5 * 0.9 + 0.5 * 0.45)
    assert candidate.grade == "recommended"
    assert (candidate.user.id, candidate.user.zone, candidate.user.locale) == ("u1", "Asia/Tokyo", "ja-JP")
    assert (candidate.item.id, candidate.item.title, candidate.item.price) == ("i0", "标题 0", 10.0)
    assert candidate.reasons == ["popular"]
    assert before_ms <= candidate.decided_ms <= now_ms()
    assert candidate.expires_ms == candidate.decided_ms + 6 * HOUR_MS
    assert {guard.rule for guard in candidate.guards} == {"in_stock", "not_bought", "price_at_most"}
    assert (decision.user, decision.outcome, decision.decision_id) == ("u1", "sent", candidate.decision_id)
    assert [(chosen.item, chosen.dedup_key) for chosen in decision.chosen] == [("i0", candidate.dedup_key)]
    assert all(step.passed for step in decision.steps)
    assert set(decision.waited_ms) == {"queue", "batch", "score"}
    headers = dict(record.headers)
    assert (record.key, headers["ce_subject"], headers["kairos-mode"]) == (b"u1", b"u1", b"live")
    (push,) = await shop.push_log("u1")
    assert (push["item"], push["code"], push["dedup_key"]) == ("i0", str(item_code("i0")), candidate.dedup_key)
    assert (await shop.queued(), await shop.leased()) == ({}, 0)


async def test_no_candidate_is_in_kafka_before_its_decision(shop: Shop) -> None:
    await shop.list_items(*catalogue(20))
    await shop.affect(*visits([f"u{i}" for i in range(20)]))
    await shop.drain()
    topics = shop.installation.topics
    candidates, told = [await shop.installation.read(topic) for topic in (topics.recommendations, topics.decisions)]
    decided_ms = {decisions.decode(record.value).decision_id: record.timestamp for record in told}
    assert len(candidates) == 20
    for record in candidates:
        # Written at the produce: a decision that waited for its candidate would be later by a round trip to Kafka.
        assert decided_ms[recommendations.decode(record.value).decision_id] <= record.timestamp


async def test_every_affected_user_ends_in_exactly_one_decision(shop: Shop) -> None:
    await shop.list_items(*catalogue())
    users = [f"用户{i}" if i % 3 else f"u{i}" for i in range(120)]
    await shop.affect(*visits(users))
    await shop.affect(*[{"user_id": user, "kind": "opted-out"} for user in users[::10]])
    source = Source(Popular())
    await shop.drain(source, KAIROS_BATCH_USERS="16")
    sent = await shop.sent()
    assert sorted(decision.user for decision in sent.decisions) == sorted(users)
    refused = {d.user: d.steps[-1].rule for d in sent.decisions if d.outcome == "refused"}
    assert refused == dict.fromkeys(users[::10], "opted_out")
    assert sorted(c.user.id for c in sent.candidates) == sorted(set(users) - set(refused))
    assert sum(source.ranker.batches) == len(users) - len(refused)  # type: ignore[attr-defined]
    assert max(source.ranker.batches) == 16  # type: ignore[attr-defined]


async def test_a_purchase_takes_the_candidate_back(shop: Shop) -> None:
    await shop.list_items(*catalogue())
    await shop.affect(*visits(["u1", "u2"]))
    await shop.drain()
    first = {c.user.id: c for c in (await shop.sent()).candidates}
    await shop.affect({"user_id": "u1", "item_id": "i0", "kind": "purchase"}, priority=0)
    await shop.drain()
    (back,) = [c for c in (await shop.sent()).candidates if c.status == "retracted"]
    assert (back.user.id, back.item.id, back.reasons) == ("u1", "i0", ["bought"])
    assert (back.dedup_key, back.collapse_key) == (first["u1"].dedup_key, first["u1"].collapse_key)
    assert [push["retracted"] for push in await shop.push_log("u1")] == [True]
    await shop.affect({"user_id": "u1", "kind": "browse", "item_id": "x"})
    await shop.drain()
    assert sum(c.status == "retracted" for c in (await shop.sent()).candidates) == 1


async def test_a_user_pushed_just_now_is_held_and_queued_for_later(shop: Shop) -> None:
    await shop.list_items(*catalogue())
    await shop.affect(*visits(["u1"]))
    await shop.drain()
    await shop.affect(*visits(["u1"], seed=1))
    await shop.drain()
    (pushed,), (_, held), _ = await shop.sent()
    assert (held.outcome, held.steps[-1].rule) == ("held", "minimum_gap")
    assert held.retry_ms == pushed.decided_ms + 4 * HOUR_MS
    assert await shop.queued() == {"u1": held.retry_ms * 4 + 3}


async def test_with_the_gap_over_the_next_candidate_replaces_the_unread_one(shop: Shop) -> None:
    await shop.list_items(*catalogue())
    await shop.affect(*visits(["u1"]))
    await shop.drain()
    await shop.affect(*visits(["u1"], seed=1))
    await shop.drain(KAIROS_MINIMUM_GAP_S="0")
    first, second = sorted((await shop.sent()).candidates, key=lambda c: c.decided_ms)
    assert (second.status, second.item.id) == ("updated", "i1")
    assert (second.collapse_key, second.dedup_key == first.dedup_key) == (first.collapse_key, False)
    assert second.caps is not None
    assert (second.caps.sent, second.caps.last_sent_ms) == (1, first.decided_ms)


async def test_a_user_at_night_is_held_until_its_own_morning(shop: Shop) -> None:
    await shop.list_items(*catalogue())
    await shop.affect(*visits(["u1"], scene={"zone": "Asia/Kolkata"}), *visits(["u2"], scene={"zone": "UTC"}))
    local = (now_ms() // 60_000 + 330) % 1_440
    clock = [f"{m // 60:02d}:{m % 60:02d}" for m in ((local - 5) % 1_440, (local + 60) % 1_440)]
    await shop.drain(KAIROS_QUIET_HOURS="-".join(clock))
    outcomes = {d.user: d for d in (await shop.sent()).decisions}
    assert (outcomes["u1"].outcome, outcomes["u2"].outcome) == ("held", "sent")
    assert 59 * 60_000 < (outcomes["u1"].retry_ms or 0) - now_ms() <= HOUR_MS


async def test_a_stop_finishes_the_batch_and_puts_the_rest_back(shop: Shop) -> None:
    await shop.list_items(*catalogue())
    users = [f"u{i}" for i in range(40)]
    await shop.affect(*visits(users))
    source = Source(Popular(seconds=0.5))
    async with shop.serving(source, KAIROS_BATCH_USERS="8"):
        await until(lambda: _true(source.ranker.batches))  # type: ignore[attr-defined]
    decided = [decision.user for decision in (await shop.sent()).decisions]
    assert 8 <= len(decided) < 40
    assert sorted([*decided, *await shop.queued()]) == sorted(users)
    assert await shop.leased() == 0


async def test_a_crashed_workers_users_are_scored_again(shop: Shop) -> None:
    await shop.list_items(*catalogue())
    await shop.affect(*visits(["u1", "u2", "u3"]))
    crashing = asyncio.create_task(
        shop.life(Source(Popular(seconds=1.0)), {"KAIROS_LEASE_S": "1"}).run(asyncio.Event())
    )
    await until(lambda: _leased(shop, 3))
    crashing.cancel()
    await asyncio.gather(crashing, return_exceptions=True)
    assert (await shop.sent()).decisions == []
    async with shop.serving(KAIROS_LEASE_S="1"):
        await until(lambda: _leased(shop, 0, after=shop))
    first = await shop.sent()
    assert sorted(d.user for d in first.decisions) == ["u1", "u2", "u3"]
    assert len({c.dedup_key for c in first.candidates}) == 3


async def test_who_is_erased_while_being_scored_gets_no_push(shop: Shop) -> None:
    await shop.list_items(*catalogue())
    await shop.affect(*visits(["u1", "u2"]))
    async with shop.serving(Source(Popular(seconds=2.0))):
        await until(lambda: _leased(shop, 2))
        await Eraser(shop.redis, shop.layout, shop.keys.namespace, "u1", now_ms()).run()
        await until(lambda: _leased(shop, 0, after=shop))
    sent = await shop.sent()
    assert [decision.user for decision in sent.decisions] == ["u2"]
    assert [candidate.user.id for candidate in sent.candidates] == ["u2"]
    assert (await shop.push_log("u1"), len(await shop.push_log("u2"))) == ([], 1)


async def test_the_dedup_key_survives_a_second_scoring_even_of_a_newer_row(shop: Shop) -> None:
    await shop.list_items(*catalogue())
    await shop.affect(*visits(["u1"]))
    await shop.drain()
    await shop.redis.unlink(shop.keys.pushes(shop.tag("u1"), b"u1"))
    await shop.affect(*visits(["u1"], seed=1))
    await shop.drain()
    first, second = (await shop.sent()).candidates
    assert first.dedup_key == second.dedup_key


async def test_a_newer_model_serves_without_a_restart_and_a_broken_one_does_not(shop: Shop) -> None:
    await shop.list_items(*catalogue())
    source = Source(Popular("m1"))
    async with shop.serving(source, KAIROS_RELOAD_S="0.1") as life:
        await shop.affect(*visits(["u1"]))
        await until(lambda: _decided(shop, 1))
        source.next = ValueError("weights.safetensors is cut short")
        await until(lambda: _true(life.registry.get_sample_value("kairos_model_reloads_total", {"result": "failed"})))
        source.next = Popular("m2")
        await until(lambda: _true(source.current().version == "m2"))
        await shop.affect(*visits(["u2"]))
        await until(lambda: _decided(shop, 2))
    assert {d.user: d.versions.model for d in (await shop.sent()).decisions} == {"u1": "m1", "u2": "m2"}


async def test_nothing_is_acknowledged_while_kafka_is_away(
    make_broker: Callable[..., Broker], redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    broker = make_broker()
    async with open_shop(broker.address, redis_url, topic_prefix, namespace, tmp_path) as shop:
        await shop.list_items(*catalogue())
        async with shop.serving(KAIROS_LEASE_S="2") as life:
            await until(lambda: _true(not life.missing()))
            broker.pause()
            await shop.affect(*visits(["u1"]))
            await asyncio.sleep(4)
            assert (await shop.leased(), await shop.queued(), await shop.push_log("u1")) == (1, {}, [])
            broker.resume()
            await until(lambda: _leased(shop, 0, after=shop))
        assert [d.outcome for d in (await shop.sent()).decisions] == ["sent"]
        assert len(await shop.push_log("u1")) == 1


async def test_one_user_the_ranker_cannot_take_harms_nobody_else(shop: Shop) -> None:
    await shop.list_items(*catalogue())
    await shop.affect(*visits([f"u{i}" for i in range(20)]))
    await shop.drain(Source(Breaks("u7")))
    sent = await shop.sent()
    assert len(sent.candidates) == 19
    (refused,) = [d for d in sent.decisions if d.outcome == "refused"]
    assert (refused.user, refused.steps[-1].rule) == ("u7", "ranker_failed")


async def test_a_ranker_that_can_take_nobody_ends_the_worker(shop: Shop) -> None:
    await shop.affect(*visits([f"u{i}" for i in range(20)]))
    assert await shop.life(Source(Breaks("")), drain=True).run(asyncio.Event()) == 1
    assert (await shop.sent()).decisions == []
    assert len(await shop.queued()) + await shop.leased() == 20


async def test_items_that_come_and_go_are_seen_while_serving(shop: Shop) -> None:
    await shop.list_items(Item("old"))
    async with shop.serving() as life:
        await until(lambda: _true(not life.missing()))
        await shop.list_items(Item("new"), clicks=50)
        await asyncio.sleep(0.3)
        await shop.affect(*visits(["u1"]))
        await until(lambda: _decided(shop, 1))
    assert [c.item.id for c in (await shop.sent()).candidates] == ["new"]


async def test_a_valkey_cluster_serves_as_well(
    make_cluster: Callable[..., ValkeyCluster], kafka: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    async with open_shop(kafka, make_cluster().url, topic_prefix, namespace, tmp_path) as shop:
        await shop.list_items(*catalogue())
        await shop.affect(*visits([f"u{i}" for i in range(30)]))
        await shop.drain()
        assert len((await shop.sent()).candidates) == 30


class Breaks(Popular):
    """Cannot take one user, or nobody where that user's name is empty."""

    def __init__(self, user: str) -> None:
        super().__init__()
        self.user = user

    def score(self, requests: Requests, items: ItemState, now_ms: int) -> Scored:
        if not self.user or self.user in requests.users:
            text = "index 7 is out of bounds"
            raise IndexError(text)
        return super().score(requests, items, now_ms)


async def _true(value: Any) -> bool:
    return bool(value)


async def _leased(shop: Shop, n: int, after: Shop | None = None) -> bool:
    return await shop.leased() == n and (after is None or not await after.queued())


async def _decided(shop: Shop, n: int) -> bool:
    return len((await shop.sent()).decisions) >= n
