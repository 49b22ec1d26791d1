"""What a model worker tells people: probes, metrics, what it waits for, and why somebody got a push or none."""

import asyncio
import urllib.request
from typing import Any

import orjson
import pytest

from model_server.decision_log import reading
from model_server.why import why
from streams.service.verb import Telling
from tests.affected import Shop, catalogue, until, visits


async def test_probes_and_metrics_tell_how_it_goes(shop: Shop) -> None:
    await shop.list_items(*catalogue())
    async with shop.serving() as life:
        await until(lambda: _true(not life.missing()))
        await shop.affect(*visits(["u1"]))
        await until(lambda: _decided(shop, 1))
        text = await asyncio.to_thread(_get, f"http://{life.address}/metrics")
        assert (await asyncio.to_thread(_get, f"http://{life.address}/ready")).startswith("{")
    assert 'kairos_decisions_total{outcome="sent",rule="",stage=""} 1.0' in text
    assert 'kairos_event_to_candidate_seconds_count{class="click"} 1.0' in text
    assert 'kairos_model_info{version="popular-1"} 1.0' in text


async def test_an_uninitialised_namespace_is_waited_for_with_the_way_out(shop: Shop) -> None:
    life, stop = shop.life(env={"KAIROS_NAMESPACE": "nowhere"}), asyncio.Event()
    running = asyncio.create_task(life.run(stop))
    await until(lambda: _true(life.missing().get("Redis (partitions)")))
    assert "kairos topics create" in life.missing()["Redis (partitions)"]
    stop.set()
    assert await running == 0


async def test_why_tells_the_latest_decisions_of_one_user(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    await shop.list_items(*catalogue())
    await shop.affect(*visits([f"u{i}" for i in range(40)]))
    await shop.drain()
    await shop.affect(*visits(["u7"], seed=1))
    await shop.drain()
    connections = shop.settings().connections
    async with reading(connections, "u7") as log:
        found = await log.newest(5)
    assert [each.decision.outcome for each in found] == ["held", "sent"]
    assert await why(connections, "u7", Telling(as_json=False), newest=1) == 0
    page = capsys.readouterr().out
    assert "held" in page
    assert "The last push is too close" in page
    assert "minimum_gap" in page
    assert await why(connections, "nobody", Telling(as_json=True), newest=1) == 1
    said = capsys.readouterr()
    assert "No decision about user nobody" in said.err
    told = orjson.loads(said.out)
    assert (told["user"], told["decisions"], told["status"]) == ("nobody", [], 1)
    assert told["error"] in said.err
    elsewhere = shop.settings(KAIROS_TOPIC_PREFIX="nowhere.").connections
    assert await why(elsewhere, "u7", Telling(as_json=True), newest=1) == 1
    assert "kairos topics create" in capsys.readouterr().err


async def _true(value: Any) -> bool:
    return bool(value)


async def _decided(shop: Shop, n: int) -> bool:
    return len((await shop.sent()).decisions) >= n


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())
