"""`kairos replay` on real servers: a rebuild equals the live rows bit for bit, whoever is killed when."""

from __future__ import annotations

import asyncio
import signal

import orjson
import pytest

from schemas import decisions, recommendations
from streams.service import namespaces
from tests.installation import Installation, Sent, events
from tests.replayed import EVENTS, Killable, beside, done, kairos, lived, queued, rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
async def live(bare: Installation) -> Installation:
    return await lived(bare)


def run_of(live: Installation, word: str) -> str:
    return f"{live.keys.namespace}-{word}"


async def test_a_rebuild_equals_the_live_rows_and_sends_nothing(live: Installation) -> None:
    run, sent = run_of(live, "again"), [live.topics.deltas, live.topics.dead_letters, live.topics.recommendations]
    before = await live.ends(sent)
    planned = await kairos(live, "replay", "--into", run)
    assert planned.returncode == 0
    assert "This is the plan" in planned.stdout
    assert (await rows(beside(live, run)))["users"] == {}

    told = await done(live, "replay", "--into", run, "--execute")

    assert (told["counts"]["events"], told["counts"]["rejects.json"]) == (EVENTS, 1)
    assert await rows(beside(live, run)) == await rows(live)
    assert await queued(beside(live, run)) == 0
    assert await queued(live) > 0
    assert await live.ends(sent) == before
    async with live.redis() as redis:
        about = (await namespaces.runs(redis, live.keys.namespace))[run]
    assert (about["mode"], about["whole"], sorted(about["ranges"])) == (
        "rebuild",
        True,
        sorted([*live.topics.user_inputs, live.topics.items]),
    )


async def test_who_was_erased_stays_away_from_a_rebuild(live: Installation) -> None:
    run, kept = run_of(live, "erased"), dict((await rows(live))["users"])
    gone = min(kept)
    await done(live, "erase", gone, "--execute")

    told = await done(live, "replay", "--into", run, "--execute")

    assert told["counts"]["results.erased"] > 0
    del kept[gone]
    assert (await rows(beside(live, run)))["users"] == kept == (await rows(live))["users"]


async def test_two_processes_and_small_chunks_come_to_the_same(live: Installation) -> None:
    run = run_of(live, "two")
    await done(live, "replay", "--into", run, "--execute", "--processes", "2", "--chunk", "37")
    assert await rows(beside(live, run)) == await rows(live)


@pytest.mark.parametrize("victim", ["child", "parent"])
async def test_a_replay_that_is_killed_goes_on_where_it_stood(live: Installation, victim: str) -> None:
    run = run_of(live, victim)
    under_way = Killable(live, "replay", "--into", run, "--execute", "--rate", "1500", "--processes", "2")
    await under_way.until_in_the_middle(run, 1000, EVENTS - 500)
    if victim == "child":
        under_way.kill_children()
        code, _, err = await under_way.ended()
        assert code == 1
        assert "run the same command again to go on" in err
    else:
        under_way.process.kill()
        under_way.process.communicate()
    again = await done(live, "replay", "--into", run, "--execute")
    assert again["plan"]["settled"] > 500
    assert again["counts"]["events"] < EVENTS
    assert await rows(beside(live, run)) == await rows(live)


async def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(live: Installation) -> None:
    run = run_of(live, "stopped")
    under_way = Killable(live, "replay", "--into", run, "--execute", "--rate", "1000")
    seen = await under_way.until_in_the_middle(run, 800, EVENTS - 500)
    under_way.process.send_signal(signal.SIGINT)
    code, out, _ = await under_way.ended()
    assert code == 130
    assert f"To go on: kairos replay --into {run} --execute" in out
    assert seen < EVENTS
    await done(live, "replay", "--into", run, "--execute")
    assert await rows(beside(live, run)) == await rows(live)


async def test_a_rebuild_is_followed_live_without_a_gap_or_a_double(live: Installation) -> None:
    run = run_of(live, "followed")
    await done(live, "replay", "--into", run, "--execute")
    await live.send(events(live.topics, 600, seed=2))
    beside(live, run).worker(KAIROS_NAMESPACE=run)
    await live.applied()
    await beside(live, run).applied()
    assert await rows(beside(live, run)) == await rows(live)
    assert await live.wrong_users() == {}


async def test_aborted_transactions_and_their_markers_are_no_obstacle(live: Installation) -> None:
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=live.kafka, transactional_id=live.keys.namespace)
    await producer.start()
    for abort in (False, True):
        await producer.begin_transaction()
        made = events(live.topics, 100, seed=3)
        for record in made:
            await producer.send(record.topic, record.value, record.key)
        await (producer.abort_transaction() if abort else producer.commit_transaction())
        live.events += [] if abort else [record.event for record in made if record.event]
    await producer.stop()
    run = run_of(live, "marked")
    told = await done(live, "replay", "--into", run, "--execute", "--chunk", "50")
    assert told["counts"]["events"] == EVENTS + 100
    await asyncio.sleep(2)  # the live worker reads the same; its fence never reaches the markers
    assert await rows(beside(live, run)) == await rows(live)


async def test_a_dry_run_counts_and_touches_nothing(live: Installation) -> None:
    async with live.redis() as redis:
        keys = {key async for key in redis.scan_iter(b"*" + live.keys.namespace.encode() + b"*")}
        told = await done(live, "replay", "--mode", "dry-run", "--execute")
        assert {key async for key in redis.scan_iter(b"*" + live.keys.namespace.encode() + b"*")} == keys
    counts, users = told["counts"], {event["user_id"] for event in live.events}
    assert (counts["events"], counts["users"], counts["rejects.json"]) == (EVENTS, len(users), 1)
    clicks = sum(event["kind"] == "click" for event in live.events)
    assert (counts["kinds.click"], counts["catalogue"]) == (clicks, 40)
    page = await kairos(live, "replay", "--mode", "dry-run", "--execute")
    assert "events by kind" in page.stdout


async def test_a_shadow_sends_everything_to_its_own_topics_and_nothing_else(live: Installation) -> None:
    run = run_of(live, "shadow")
    outlets = beside(live, run).topics.shadow_outlets
    names = [live.topics.recommendations, live.topics.decisions]
    before, live_queue = await live.ends(names), await queued(live)
    await done(live, "replay", "--into", run, "--mode", "shadow", "--execute")
    waiting = await queued(beside(live, run))
    assert waiting > 0

    drained = await kairos(live, "model", "--shadow", run, "--drain")

    assert drained.returncode == 0, drained.stderr
    told = [decisions.decode(record.value) for record in await live.read(outlets.decisions)]
    sent = [recommendations.decode(record.value) for record in await live.read(outlets.recommendations)]
    assert {d.mode for d in told} == {c.mode for c in sent} == {"shadow"}
    assert len({d.user for d in told}) == waiting
    assert await live.ends(names) == before
    assert await queued(live) == live_queue
    async with live.redis() as redis:
        pushes = [key async for key in redis.scan_iter(live.keys.user_tag(0)[:-2] + b"*:p:*")]
        pushes += [key async for key in redis.scan_iter(beside(live, run).keys.user_tag(0)[:-2] + b"*:p:*")]
    assert pushes == [], "what was never sent must not count, not even when the run comes into force"
    straight = await kairos(beside(live, run), "model", "--drain")
    assert (straight.returncode, "no live candidate comes from a run" in straight.stderr) == (78, True)
    refused = await kairos(live, "model", "--shadow", live.keys.namespace)
    assert (refused.returncode, "is the namespace in force" in refused.stderr) == (78, True)


async def test_what_cannot_be_replayed_is_refused_with_a_sentence(live: Installation) -> None:
    run = run_of(live, "refused")
    await done(live, "replay", "--into", run, "--topics", "clicks", "--from", "3", "--execute")
    end = max(end for (_, _), end in (await live.ends([live.topics.clicks])).items())
    cases = {
        ("--into", live.keys.namespace): "is the namespace in force",
        ("--into", run, "--topics", "clicks", "--from", "5"): "goes on with that range and takes no other",
        ("--into", run, "--mode", "shadow"): "was begun in mode rebuild and stays so",
        ("--into", "new", "--topics", "klicks"): "Did you mean clicks?",
        ("--into", "new", "--topics", "clicks", "--from", str(end + 10)): "Nothing lies from offset",
        ("--into", "new", "--from", "2100-01-01"): "The log holds",
    }
    for options, sentence in cases.items():
        refused = await kairos(live, "replay", *options)
        assert (refused.returncode, sentence in refused.stderr) == (78, True), refused.stderr
    typed = await kairos(live, "replay", "--into", "new", "--from", "yesterday")
    assert (typed.returncode, "is no offset (5000), no time" in typed.stderr) == (2, True)


async def test_a_time_counts_events_from_its_lead_in_on_and_no_others(live: Installation) -> None:
    run, when = run_of(live, "late"), max(event["ts_ms"] for event in live.events) - 1_800_000
    old = {"user_id": "u1", "item_id": "i1", "kind": "click", "ts_ms": when - 60_000}
    new = old | {"ts_ms": when + 60_000}
    made = [Sent(live.topics.clicks, b"u1", orjson.dumps(event), event) for event in (old, new)]
    await live.send(made)
    text = f"{when // 1000 * 1000}"
    from streams.replay.moments import iso

    told = await done(live, "replay", "--into", run, "--from", iso(int(text)), "--lead-in", "0", "--execute")
    counted = [event for event in live.events if event["ts_ms"] >= int(text)]
    assert told["counts"]["events"] == len(counted)
    assert told["counts"]["results.outside"] == len(live.events) - len(counted)
