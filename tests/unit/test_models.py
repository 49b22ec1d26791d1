"""`kairos models`: what is there, what is in force, promotions and the way back; real bundles in a real folder."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from model_server.blend import Blend
from model_server.bundle import Bundle, save
from model_server.bundle_watcher import BundleWatcher
from model_server.model_folder import before_current, current_version, make_current, promotions
from model_server.models import verb
from model_server.preparation import Preparation
from model_server.retrieval.neighbours import Neighbours
from streams.features.declaration import DEFAULT

SCORES = {"ndcg@10": 0.25, "hr@10": 0.5, "mrr": 0.125}
REPORT = {
    "events": 12_345, "users": 10, "items": 20, "lists": 100, "requests": {"valid": 5, "test": 5},
    "recall": {"valid": 0.75, "test": 0.75}, "served": "wide rank blend", "measured on": "test", "verdicts": [],
    "rankers": {"wide rank blend": {"valid": SCORES, "test": {**SCORES, "ndcg@10": 0.5}}},
    "best baseline": None, "gain over": {"wide rank blend": {"ndcg@10": 0.0, "low": -0.1, "high": 0.1, "share": 0.0}},
}  # fmt: skip


def bundle(version: str, **changes: Any) -> Bundle:
    preparation = Preparation(DEFAULT, np.empty(0, np.uint64), Neighbours.none())
    whole = Bundle(
        version=version, schema=DEFAULT.schema, counters=preparation.counters.names, lists=preparation.retriever.names,
        history=preparation.history, words=np.empty(0, np.uint64), neighbours=Neighbours.none(),
        blend=Blend(np.linspace(0.1, 1, len(preparation.retriever.names), dtype=np.float32)),
        calibrations={"net": (1.0, 0.0), "blend": (1.0, 0.0)}, shape=None, weights=None, report=REPORT,
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three versions, a day apart, the middle one in force after the first."""
    monkeypatch.setenv("KAIROS_MODEL_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    for day, version in enumerate(("a-one", "b-two", "b-three")):
        path = save(tmp_path, bundle(version)) / "bundle.json"
        os.utime(path, (day * 86_400, day * 86_400))
    make_current(tmp_path, "a-one", "train", 1)
    make_current(tmp_path, "b-two", "train", 2)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    status = verb([*argv, "--json"])
    document = orjson.loads(capsys.readouterr().out)
    assert document["status"] == status
    return status, document


def test_the_list_names_every_version_the_newest_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, document = told(capsys, "list")
    assert (status, document["current"]) == (0, "b-two")
    assert [one["version"] for one in document["versions"]] == ["b-three", "b-two", "a-one"]
    assert [one["current"] for one in document["versions"]] == [False, True, False]
    assert document["versions"][0]["ndcg@10"] == {"valid": 0.25, "test": 0.5}
    assert verb(["list"]) == 0
    page = capsys.readouterr().out
    assert page.index("b-three") < page.index("● b-two".replace(" ", "  ")) < page.index("a-one")
    assert "12,345" in page
    assert "0.5000" in page
    assert str(folder) in page.replace("\n", "")


def test_a_promotion_is_planned_then_done_and_a_worker_follows(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher = BundleWatcher(folder, DEFAULT, "cpu")
    assert watcher.poll() == "b-two"
    status, document = told(capsys, "promote", "a")
    assert (status, document["executed"]) == (0, False)
    assert document["plan"] == {"from": "b-two", "to": "a-one", "by": "promote"}
    assert current_version(folder) == "b-two"
    status, document = told(capsys, "promote", "a", "--execute")
    assert (status, document["executed"]) == (0, True)
    assert current_version(folder) == "a-one"
    assert watcher.poll() == "a-one"
    assert verb(["promote", "a-one", "--execute"]) == 0
    assert "a-one is in force already." in capsys.readouterr().out
    assert len(promotions(folder)) == 3


def test_undo_goes_back_step_by_step_and_says_when_there_is_no_more(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(capsys, "promote", "b-three", "--execute")[0] == 0
    assert told(capsys, "undo")[1]["plan"] == {"from": "b-three", "to": "b-two", "by": "undo"}
    assert current_version(folder) == "b-three"
    for expected in ("b-two", "a-one"):
        assert told(capsys, "undo", "--execute")[0] == 0
        assert current_version(folder) == expected
    status, document = told(capsys, "undo", "--execute")
    assert status == 1
    assert document["error"] == "Nothing was in force before a-one: there is nothing to go back to."


def test_a_promotion_that_a_kill_cut_short_misleads_no_undo(folder: Path) -> None:
    with (folder / "promotions.jsonl").open("ab") as journal:
        journal.write(b'{"at_ms":3,"before":"b-two","version":"b-three","by":"promote"}\n{"at_ms":4,"bef')
    assert current_version(folder) == "b-two"
    assert before_current(folder) == "a-one"


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"schema": 7}, "trained on rows of schema 7"),
        ({"counters": ("x",)}, "knows other counters or lists than this release"),
        ({"blend": Blend(np.full(1, np.nan, np.float32))}, "not finite"),
    ],
)
def test_what_cannot_serve_stays_out_of_force(
    folder: Path, capsys: pytest.CaptureFixture[str], broken: dict[str, Any], why: str
) -> None:
    save(folder, bundle("c-bad", **broken))
    status, document = told(capsys, "promote", "c-bad", "--execute")
    assert (status, document["executed"]) == (1, False)
    assert why in document["error"]
    assert "c-bad stays out of force" in document["error"]
    assert current_version(folder) == "b-two"
    status, document = told(capsys, "show", "c-bad")
    assert status == 1
    assert why in document["trouble"]


def test_show_tells_when_a_bundle_was_in_force(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, document = told(capsys, "show")
    assert (status, document["version"], document["current"]) == (0, "b-two", True)
    assert document["promotions"] == [{"at_ms": 2, "before": "a-one", "version": "b-two", "by": "train"}]
    assert document["document"]["report"] == REPORT
    assert verb(["show"]) == 0
    page = capsys.readouterr().out
    assert "b-two, in force" in page
    assert "train: a-one -> b-two" in page
    assert "recall of the candidates: valid 0.750" in page
    assert current_version(folder) == "b-two"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("b", "b may be b-three or b-two: write more of it."),
        ("x", "has no version x; it has b-three, b-two, a-one."),
    ],
)
def test_a_name_that_is_not_one_version(
    folder: Path, capsys: pytest.CaptureFixture[str], asked: str, sentence: str
) -> None:
    status, document = told(capsys, "show", asked)
    assert status == 1
    assert sentence in document["error"]
    assert folder.is_dir()


def test_prune_keeps_the_newest_the_one_in_force_and_the_one_before(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(folder, bundle("old"))
    os.utime(folder / "old" / "bundle.json", (-86_400, -86_400))
    assert told(capsys, "prune", "--keep", "1")[1]["plan"] == {"remove": ["old"]}
    assert (folder / "old").is_dir()
    assert told(capsys, "prune", "--keep", "1", "--execute")[0] == 0
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["a-one", "b-three", "b-two"]
    assert verb(["prune", "--keep", "1", "--execute"]) == 0
    assert "Nothing to delete." in capsys.readouterr().out


def test_a_folder_with_a_broken_bundle_and_one_that_is_gone_is_listed_whole(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a-one" / "bundle.json").write_bytes(b"{")
    make_current(folder, "gone", "promote", 3)
    status, document = told(capsys, "list")
    assert status == 1
    assert document["error"] == "The version in force, gone, is not there: promote another."
    assert {one["version"]: one["trouble"] for one in document["versions"]} == {
        "a-one": "bundle.json cannot be read (JSONDecodeError)", "b-two": "", "b-three": "",
    }  # fmt: skip


def test_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("KAIROS_MODEL_DIR", raising=False)
    assert told(capsys, "list")[1]["error"] == "Set KAIROS_MODEL_DIR to the folder of the bundles."
    monkeypatch.setenv("KAIROS_MODEL_DIR", str(tmp_path / "none"))
    assert "There is no folder" in told(capsys, "list")[1]["error"]
    monkeypatch.setenv("KAIROS_MODEL_DIR", str(tmp_path))
    assert told(capsys, "promote", "x")[1]["error"] == f"{tmp_path} holds no bundle yet: run `kairos train`."
    assert told(capsys, "show")[1]["error"].startswith("No bundle is in force")
