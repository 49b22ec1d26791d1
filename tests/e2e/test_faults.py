"""A short selection of the fault harness: pairs of faults over real servers, with every row judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.plan import plan
from tests.faults.registry import FAULTS
from tests.faults.run import Run

pytestmark = pytest.mark.slow

PAIRS = [(11, "worker-killed,redis-tail-lost"), (13, "model-killed,redis-connections-killed")]


@pytest.mark.parametrize(("seed", "faults"), PAIRS)
async def test_nothing_is_lost_or_doubled_under(seed: int, faults: str, tmp_path: Path) -> None:
    verdict = await Run(plan(seed, FAULTS, faults.split(",")), FAULTS, tmp_path).perform()
    assert verdict.complaints == []
    assert verdict.events > 500
    assert verdict.candidates > 0
