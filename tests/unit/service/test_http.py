"""The probes answer 200 or 503 with what is missing, and the metrics in Prometheus' format."""

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from streams.service import http


async def get(server: http.Server, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{server.address}{path}") as response:
        return response.status, await response.text()


async def test_ready_names_what_is_waited_for_until_nothing_is() -> None:
    missing = {"redis": "Connection refused (attempt 3)"}
    registry = CollectorRegistry()
    async with await http.serve("127.0.0.1:0", live=dict, ready=lambda: missing, registry=registry) as server:
        assert server.address.startswith("127.0.0.1:")
        status, text = await get(server, "/ready")
        assert status == 503
        assert '"ready": false' in text
        assert '"redis": "Connection refused (attempt 3)"' in text
        assert (await get(server, "/live"))[0] == 200
        missing.clear()
        assert (await get(server, "/ready"))[0] == 200


async def test_metrics_are_those_of_the_registry() -> None:
    registry = CollectorRegistry()
    Counter("kairos_events", "Events.", ["topic"], registry=registry).labels("clicks").inc(3)
    async with await http.serve("127.0.0.1:0", live=dict, ready=dict, registry=registry) as server:
        status, text = await get(server, "/metrics")
    assert status == 200
    assert 'kairos_events_total{topic="clicks"} 3.0' in text


async def test_a_port_in_use_is_explained_with_the_way_out() -> None:
    registry = CollectorRegistry()
    async with await http.serve("127.0.0.1:0", live=dict, ready=dict, registry=registry) as server:
        with pytest.raises(OSError, match=f"KAIROS_HTTP={server.address}.*set another port"):
            await http.serve(server.address, live=dict, ready=dict, registry=registry)
