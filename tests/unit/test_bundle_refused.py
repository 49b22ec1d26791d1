"""Bundles that cannot serve: the old ranker stays, the reason is told once, and what is mended is taken over."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from model_server.bundle import BundleError, load
from model_server.bundle_watcher import AGAIN_S, BundleWatcher
from model_server.model_folder import make_current
from model_server.training.recorded import Recorded
from streams.features.declaration import DEFAULT
from streams.features.features_file import merge
from tests.shoplog import recorded
from tests.unit.test_bundle import made_bundle, served


@pytest.fixture(scope="module")
def log() -> Recorded:
    return recorded(7)


def changed(document: dict[str, Any], *path: str | int, to: Any) -> dict[str, Any]:
    """The document with another value at `path`."""
    *inner, last = path
    part: Any = document
    for name in inner:
        part = part[name]
    part[last] = to
    return document


ELSE: dict[str, tuple[tuple[str | int, ...], Any]] = {
    "another format": (("format",), 99),
    "the format before": (("format",), 1),
    "other counters": (("counters",), ["x"]),
    "another shape": (("shape", "encoder", "hidden"), 32),
    "heads of another shape": (("heads", "grading", "weights"), [[0.5, 0.5]] * 3),
    "heads for other cells": (("heads", "calibrations", 0, "shift"), [0.0]),
    "a head that is no number": (("heads", "cutoffs", "best"), None),
}
"""What is wrong in a bundle's document: where, and what stands there."""


def broken(tmp_path: Path, name: str) -> None:
    """Break the bundle v2 in the way called `name`."""
    path = tmp_path / "v2"
    weights, document = path / "weights.safetensors", path / "bundle.json"
    if name == "truncated weights":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif name == "no weights":
        weights.unlink()
    elif name == "no JSON":
        document.write_bytes(b"{")
    elif name == "not there":
        make_current(tmp_path, "v9", "promote", 0)
    else:
        where, value = ELSE[name]
        document.write_bytes(orjson.dumps(changed(orjson.loads(document.read_bytes()), *where, to=value)))


@pytest.mark.parametrize(
    "name",
    ["truncated weights", "no weights", "no JSON", "not there", *ELSE],
)
def test_a_bad_bundle_keeps_the_old_one_and_says_why_once(log: Recorded, tmp_path: Path, name: str) -> None:
    served(tmp_path, made_bundle(log, "v1"))
    watcher = BundleWatcher(tmp_path, DEFAULT, "cpu")
    assert watcher.poll() == "v1"
    served(tmp_path, made_bundle(log, "v2"))
    broken(tmp_path, name)
    with pytest.raises(BundleError, match=r"train again|train a new bundle"):
        watcher.poll()
    assert watcher.poll() is None
    assert watcher.current().version == "v1"
    served(tmp_path, made_bundle(log, "v3"))
    assert watcher.poll() == "v3"


def test_a_bundle_that_is_mended_in_place_is_taken_over(log: Recorded, tmp_path: Path) -> None:
    served(tmp_path, made_bundle(log, "v2"))
    weights = tmp_path / "v2" / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    watcher = BundleWatcher(tmp_path, DEFAULT, "cpu")
    with pytest.raises(BundleError):
        watcher.poll()
    assert watcher.poll() is None
    weights.write_bytes(whole)
    assert watcher.poll() == "v2"


def test_a_refused_bundle_whose_files_stay_is_tried_again_after_a_while_and_told_once(
    log: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(tmp_path, made_bundle(log, "v2"))
    now_s = 0.0
    watcher = BundleWatcher(tmp_path, DEFAULT, "cpu", clock_s=lambda: now_s)
    monkeypatch.setitem(sys.modules, "model_server.ranker.load", None)
    with pytest.raises(BundleError, match=r"v2 needs a package that does not import .*extra 'model'"):
        watcher.poll()
    now_s = AGAIN_S
    assert watcher.poll() is None
    monkeypatch.undo()
    now_s = 2 * AGAIN_S - 1
    assert watcher.poll() is None
    now_s = 2 * AGAIN_S
    assert watcher.poll() == "v2"


def test_a_folder_that_cannot_be_read_is_told_once_and_followed_when_it_can(log: Recorded, tmp_path: Path) -> None:
    served(tmp_path, made_bundle(log, "v2"))
    (tmp_path / "current").rename(tmp_path / "kept")
    (tmp_path / "current").mkdir()
    watcher = BundleWatcher(tmp_path, DEFAULT, "cpu")
    with pytest.raises(OSError, match="current"):
        watcher.poll()
    assert watcher.poll() is None
    (tmp_path / "current").rmdir()
    (tmp_path / "kept").rename(tmp_path / "current")
    assert watcher.poll() == "v2"


def test_weights_that_are_no_numbers_are_refused(log: Recorded, tmp_path: Path) -> None:
    bundle = made_bundle(log, "v1")
    assert bundle.weights is not None
    name = next(n for n, w in bundle.weights.items() if w.dtype == np.float32 and w.size)
    weights = {**bundle.weights, name: np.full_like(bundle.weights[name], np.nan)}
    served(tmp_path, dataclasses.replace(bundle, weights=weights))
    with pytest.raises(BundleError, match="not finite"):
        load(tmp_path, "v1", DEFAULT)


def test_rows_of_another_schema_are_refused_with_both_numbers(log: Recorded, tmp_path: Path) -> None:
    served(tmp_path, made_bundle(log, "v1"))
    other = merge(DEFAULT, {"windows": {"13d": "13d"}})
    assert other.schema != DEFAULT.schema
    with pytest.raises(BundleError, match=f"{DEFAULT.schema}.*{other.schema}"):
        load(tmp_path, "v1", other)
