"""What `kairos doctor` says of the model bundle, as far as it can be known without the net."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model_server.blend import Blend
from model_server.bundle import Bundle, save
from model_server.checkup import look_at_model
from model_server.model_folder import make_current
from model_server.preparation import Preparation
from model_server.retrieval.neighbours import Neighbours
from streams.features.declaration import DEFAULT
from streams.service.findings import Section

DAY_S = 86_400
ROOT = Path(__file__).parents[2]


def blend_bundle(version: str = "v1", schema: int = DEFAULT.schema) -> Bundle:
    """A bundle without a net."""
    preparation = Preparation(DEFAULT, np.empty(0, np.uint64), Neighbours.none())
    return Bundle(
        version=version,
        schema=schema,
        counters=preparation.counters.names,
        lists=preparation.retriever.names,
        history=preparation.history,
        words=np.empty(0, np.uint64),
        neighbours=Neighbours.none(),
        blend=Blend(np.linspace(0.1, 1, len(preparation.retriever.names), dtype=np.float32)),
        calibrations={"net": (1.0, 0.0), "blend": (1.0, 0.0)},
        shape=None,
        weights=None,
        report={"served": "blend"},
    )


def served(folder: Path, bundle: Bundle) -> Path:
    """Write a bundle and bring it into force."""
    path = save(folder, bundle)
    make_current(folder, bundle.version, "train", 0)
    return path


def told(section: Section) -> tuple[str, str]:
    """The state, and what is not green or the first finding."""
    worst = [finding for finding in section.findings if finding.state == section.state]
    assert section.state == "green" or worst[0].remedy
    return section.state, worst[0].what


def test_a_bundle_that_can_serve_is_green_with_its_age(tmp_path: Path) -> None:
    path = served(tmp_path, blend_bundle())
    os.utime(path / "bundle.json", (1_000_000, 1_000_000))
    section = look_at_model(str(tmp_path), None, now_s=1_000_000 + 2.5 * DAY_S)
    assert told(section) == ("green", f"bundle v1: the blend of the lists, for rows of schema {DEFAULT.schema}")
    assert section.facts["age_days"] == 2.5
    assert section.facts["report"] == {"served": "blend"}
    old = look_at_model(str(tmp_path), None, now_s=1_000_000 + 31 * DAY_S)
    assert told(old) == ("yellow", "It was trained 31 days ago: tastes and articles have moved on.")


def test_without_a_bundle_the_blend_serves(tmp_path: Path) -> None:
    assert told(look_at_model(None, None)) == ("yellow", "KAIROS_MODEL_DIR is not set: the rank blend serves.")
    state, what = told(look_at_model(str(tmp_path), None))
    assert (state, what) == ("yellow", f"No bundle is named in {tmp_path / 'current'}: the rank blend serves.")


def test_a_folder_that_is_not_there_is_red(tmp_path: Path) -> None:
    assert told(look_at_model(str(tmp_path / "none"), None)) == ("red", f"There is no folder {tmp_path / 'none'}.")


@pytest.mark.parametrize("name", ["bundle.json", "arrays.safetensors"])
def test_a_bundle_that_is_cut_is_red(tmp_path: Path, name: str) -> None:
    path = served(tmp_path, blend_bundle()) / name
    path.write_bytes(path.read_bytes()[:20])
    state, what = told(look_at_model(str(tmp_path), None))
    assert state == "red"
    assert "is no whole bundle" in what


def test_a_bundle_of_other_rows_or_none_at_all_is_red(tmp_path: Path) -> None:
    served(tmp_path, blend_bundle("other", schema=7))
    assert "was trained on rows of schema 7" in told(look_at_model(str(tmp_path), None))[1]
    make_current(tmp_path, "gone", "promote", 0)
    assert told(look_at_model(str(tmp_path), None))[0] == "red"


LOOK = """
import sys
if {without!r}:
    sys.modules[{without!r}] = None
from deploy.doctor import DoctorSettings, _further
from streams.service.settings import read
(_, look), = _further(read(DoctorSettings, {{"KAIROS_MODEL_DIR": {folder!r}}}))
print(look().state, look().findings[0].what, "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("", f"green bundle v1: the blend of the lists, for rows of schema {DEFAULT.schema} False"),
        ("torch", f"green bundle v1: the blend of the lists, for rows of schema {DEFAULT.schema} True"),
        ("scipy", "yellow The bundle was not looked at: scipy is not installed here. False"),
    ],
)
def test_the_look_needs_no_torch_and_says_what_is_missing(tmp_path: Path, without: str, said: str) -> None:
    served(tmp_path, blend_bundle())
    source = LOOK.format(without=without, folder=str(tmp_path))
    ended = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == f"{said}\n"
