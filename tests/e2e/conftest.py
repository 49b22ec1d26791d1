"""What most tests over processes begin with: an installation of their own on the session's servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.affected import Shop, open_shop
from tests.installation import Installation
from tests.promoting import Promoted


@pytest.fixture
async def bare(
    kafka: str, redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> AsyncIterator[Installation]:
    """An installation without topics yet."""
    made = Installation(kafka, redis_url, topic_prefix, namespace, tmp_path)
    yield made
    made.close()


@pytest.fixture
async def installation(bare: Installation) -> Installation:
    """An installation of four partitions of users and two of items."""
    assert (await bare.set_up())[0] == 0
    return bare


@pytest.fixture
async def shop(kafka: str, redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path) -> AsyncIterator[Shop]:
    """What a model worker stands on, without a catalogue yet."""
    async with open_shop(kafka, redis_url, topic_prefix, namespace, tmp_path) as opened:
        yield opened


@pytest.fixture
async def promoted(
    kafka: str, redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> AsyncIterator[Promoted]:
    """An installation beside which a run can be built and promoted."""
    made = Promoted(kafka, redis_url, topic_prefix, namespace, tmp_path)
    assert (await made.set_up())[0] == 0
    yield made
    made.close()
