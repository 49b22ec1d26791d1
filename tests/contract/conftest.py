"""Fixtures of the contract suites: every place that keeps tables."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from schemas.keys import Keys
from streams.tables.store import Store
from streams.tables.users import UserTable
from streams.tables.weather import Weather
from tests.chunked import LAYOUT, PARTITION, TOPICS, facts
from tests.contract.backends import Backend, InMemory, InRedis, MakeTable, client_of


@pytest.fixture(params=["valkey", "cluster"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """A client of the session's Valkey, and of a Cluster."""
    made = client_of(request.getfixturevalue("redis_url" if request.param == "valkey" else "redis_cluster_url"))
    yield made
    await made.aclose()


@pytest.fixture(params=["memory", "valkey", "cluster"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    if request.param == "memory":
        yield InMemory()
        return
    client = client_of(request.getfixturevalue("redis_url" if request.param == "valkey" else "redis_cluster_url"))
    yield InRedis(client)
    await client.aclose()


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


@pytest.fixture
def tag(keys: Keys) -> bytes:
    return keys.user_tag(PARTITION)


@pytest.fixture
async def make(backend: Backend, keys: Keys) -> MakeTable:
    """Makes tables of further processes over the same store; the partition is initialised."""

    def make(writer: str = "a", *, store: Store | None = None, **options: Any) -> UserTable:
        weather = Weather(first_pause_s=0.001, longest_pause_s=0.01)
        return UserTable(store or backend.store, keys, LAYOUT, writer=writer, weather=weather, **options)

    for topic in (TOPICS.clicks, TOPICS.browses, TOPICS.orders):
        await make("init").initialise(facts(topic))
    return make
