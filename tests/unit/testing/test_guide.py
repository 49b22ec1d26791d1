"""Every example of docs/testing.md is run as it stands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import streams.testing
from streams.testing import Fault, Harness

GUIDE = (Path(__file__).parents[3] / "docs" / "testing.md").read_text()


def examples() -> dict[str, Callable[[], None]]:
    found: dict[str, Any] = {}
    for block in re.finditer(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        names: dict[str, Any] = {}
        # As many empty lines before it as the guide has, so that a failure names the guide's own line.
        before = "\n" * GUIDE.count("\n", 0, block.start(1))
        exec(compile(before + block[1], "docs/testing.md", "exec"), names)
        found |= {name: what for name, what in names.items() if name.startswith("test_")}
    return found


EXAMPLES = examples()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_the_guide_holds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (features,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "features.toml").write_text(features)
    monkeypatch.chdir(tmp_path)
    EXAMPLES[name]()


def test_every_name_of_the_kit_is_in_the_guide() -> None:
    public = {name for name in vars(Harness) if not name.startswith("_")} | {fault.name for fault in Fault}
    values = set(streams.testing.__all__) - {"Affected", "Clock", "Draft", "Ending", "Entry", "Item", "User"}
    assert {name for name in public | values if not re.search(rf"\b{name}\b", GUIDE)} == set()
