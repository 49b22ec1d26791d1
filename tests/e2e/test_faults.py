"""A short selection of the fault harness: pairs of faults over real servers, with every row judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.fault import Layout
from tests.faults.plan import plan
from tests.faults.registry import FAULTS
from tests.faults.run import Run
from tests.faults.security import may_encrypt

pytestmark = pytest.mark.slow

PAIRS = [(11, "worker-killed,redis-tail-lost", False), (13, "model-killed,redis-connections-killed", True)]


@pytest.mark.parametrize(("seed", "faults", "doors"), PAIRS)
async def test_nothing_is_lost_or_doubled_under(seed: int, faults: str, doors: bool, tmp_path: Path) -> None:
    """With doors: over TLS, with a login, and with the rights of docs/security.md."""
    made = replace(plan(seed, FAULTS, faults.split(",")), layout=Layout.SINGLE, doors=doors and may_encrypt() is None)
    verdict = await Run(made, FAULTS, tmp_path).perform()
    assert verdict.complaints == []
    assert verdict.events > 500
    assert verdict.candidates > 0
