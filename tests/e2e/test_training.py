"""`kairos train` from a file: guarded stages, a bundle the worker can serve, the same numbers for the same seed."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import orjson
import pytest

from model_server.blend import default_blend
from model_server.bundle import load, save
from model_server.bundle_watcher import BundleWatcher
from model_server.retrieval.retriever import Retriever
from model_server.text.library import cache_folder
from model_server.text.projection import fitted
from model_server.training import report
from model_server.training.cli import main
from model_server.training.config import TrainConfig
from model_server.training.progress import Silent
from model_server.training.recorded import Recorded, until
from model_server.training.requests import Split
from model_server.training.train import BLEND, Bar, Trained, TrainingError, bar_of, scorer_of, train
from streams.features.declaration import DEFAULT
from tests.shoplog import START_MS, raw_events
from tests.titled import NAME, library, title
from tests.trained import small_log, weights

TINY = dataclasses.replace(
    TrainConfig(split=Split(test=0.1)).quick, lists=400, valid=120, test=120, width=40, hidden=16, threads=1
)
REAL = Path(os.environ.get("KAIROS_DATA", "../shared/data"))


@pytest.fixture(scope="module")
def log() -> Recorded:
    return small_log()


@pytest.fixture(scope="module")
def trained(log: Recorded) -> Trained:
    return train(log, DEFAULT, TINY, Silent())


def test_every_stage_is_judged_and_none_makes_it_worse(trained: Trained) -> None:
    assert [verdict.stage for verdict in trained.judgements] == ["linear", "counter net", "encoder"]
    values = [value for verdict in trained.judgements for value in (verdict.before, verdict.after)]
    assert all(before <= after for before, after in zip(values[::2], values[1::2], strict=True))
    np.testing.assert_allclose(values[1:-1:2], values[2::2], atol=1e-6)


def test_an_encoder_that_is_not_kept_is_taken_off(trained: Trained) -> None:
    assert (trained.net.encoder is None) == (trained.judgements[-1].kept == 0)


def test_what_is_served_is_what_was_better_on_valid(log: Recorded, trained: Trained) -> None:
    told = report.report(trained, log, 0)
    on_valid = {name: parts["valid"]["ndcg@10"] for name, parts in told["rankers"].items()}
    bar = max(on_valid[name] for name in (BLEND, *trained.baselines))
    assert trained.bar.value == pytest.approx(bar)
    assert told["served"] == (told["final"] if on_valid[told["final"]] > bar else BLEND)
    bundle = report.bundle_of(trained, DEFAULT, told, 0)
    assert (bundle.weights is None) == (told["served"] == BLEND)
    assert trained.graded is not None
    assert bundle.heads is trained.graded.heads
    assert any("opens the push" in line for line in report.sentences(told))


def test_the_heads_are_fitted_to_what_is_served_and_change_no_score(trained: Trained) -> None:
    assert trained.graded is not None
    heads, told = trained.graded
    assert len(heads.grading.weights) in ({0, 64} if trained.served else {0})
    judge = trained.valid
    score, hidden = scorer_of(trained.dataset, trained.net)(judge.examples.batch)
    np.testing.assert_array_equal(score, judge.scores(trained.net))
    assert hidden.shape == (*score.shape, 64)
    for when in ("uncalibrated", "calibrated"):
        assert {"L", "logloss", "auc", "ece", "field ece", "reliability"} <= set(told[when])
    assert set(told["sides"]) == {"opens", "opts_out", "comes"}
    assert heads.fits(DEFAULT)


def test_a_net_must_be_above_the_better_of_the_blend_and_the_best_baseline() -> None:
    def at(value: float) -> dict[str, dict[str, np.ndarray]]:
        return {"valid": {"ndcg@10": np.full(3, value)}}

    assert bar_of(0.25, {"popularity": at(0.125), "user frequency": at(0.5)}) == Bar("user frequency", 0.5)
    assert bar_of(0.5, {"user frequency": at(0.5)}) == Bar(BLEND, 0.5)


def test_the_report_says_what_the_bundle_was_held_against(log: Recorded, trained: Trained) -> None:
    told = report.report(trained, log, 0)
    assert f"above {trained.bar.name} ({trained.bar.value:.4f}) on valid" in "\n".join(report.sentences(told))
    kept = {**told, "served": BLEND, "bar": {"name": "user frequency", "value": 0.4}}
    assert any(
        line.startswith("No stage is above user frequency (0.4000) on valid: the bundle serves")
        for line in report.sentences(kept)
    )
    before = {name: value for name, value in told.items() if name != "bar"}
    assert f"above {BLEND} (" in "\n".join(report.sentences(before))


def test_a_training_ranks_better_than_what_serves_before_it(trained: Trained) -> None:
    untrained = default_blend(trained.preparation.retriever.names).score(trained.valid.examples.batch.near)
    assert trained.valid.value(trained.net) > 1.05 * trained.valid.value_of(untrained)


def test_a_training_with_titles_makes_a_bundle_that_reads_them(log: Recorded, tmp_path: Path) -> None:
    named = dataclasses.replace(log, titles=[title(n) for n in range(len(log.item_ids))])
    raw = library(cache_folder(tmp_path)).vectors(named.titles)  # what the disk has is not read again
    projection = fitted(NAME, raw, 8)
    config = dataclasses.replace(TINY, lists=150, encoder=None, projection=projection, model_dir=tmp_path)
    with_titles = train(named, DEFAULT, config, Silent())
    told = report.report(with_titles, named, 0)
    assert told["titles"] == NAME
    bundle = report.bundle_of(with_titles, DEFAULT, told, 0)
    save(tmp_path, bundle)
    read = load(tmp_path, bundle.version, DEFAULT)
    assert read.titles is not None
    assert read.titles.axes.tolist() == projection.axes.tolist()
    assert {"like titles"} == set(read.lists) - set(Retriever(DEFAULT).names)
    counted = with_titles.dataset.learn.batch.counters[..., read.counters.index("title_greatest")]
    assert counted.any()


def test_the_same_seed_gives_the_same_weights(log: Recorded) -> None:
    config = dataclasses.replace(TINY, lists=150, encoder=None, net=dataclasses.replace(TINY.net, passes=2))
    one, two, other = (train(log, DEFAULT, dataclasses.replace(config, seed=s), Silent()) for s in (0, 0, 1))
    assert weights(one) == weights(two)
    assert weights(one) != weights(other)
    assert report.bundle_of(one, DEFAULT, {}, 0).version == report.bundle_of(two, DEFAULT, {}, 0).version


def test_what_happens_after_valid_teaches_nothing(log: Recorded) -> None:
    config = dataclasses.replace(TINY, lists=150, renewals=1, encoder=None)
    whole = train(log, DEFAULT, config, Silent())
    count = len(whole.chosen.valid)
    past = until(log, int(whole.chosen.moments.ts_ms[whole.chosen.test[0]]))
    share = (count + 0.5) / (len(whole.chosen.moments) - len(whole.chosen.test))
    alone = train(past, DEFAULT, dataclasses.replace(config, split=Split(valid=share, test=0)), Silent())
    assert len(past) < len(log)
    assert alone.test is None
    assert len(alone.chosen.valid) == count
    assert weights(alone) == weights(whole)


def test_too_little_to_learn_from_is_said(log: Recorded) -> None:
    with pytest.raises(TrainingError, match="too few to learn from"):
        train(until(log, START_MS + 600_000), DEFAULT, TINY, Silent())
    with pytest.raises(TrainingError, match="too few to learn from"):
        train(until(log, 0), DEFAULT, TINY, Silent())


def write_log(folder: Path) -> tuple[Path, Path]:
    """The small log as JSON lines, and its mapping."""
    events = folder / "shop.jsonl"
    rows = [orjson.loads(event.value or b"{}") for event in raw_events(11, users=25, items=80, events=2_500)]
    events.write_bytes(b"\n".join(orjson.dumps({**row, "scene": None}) for row in rows))
    mapping = folder / "shop.toml"
    kinds = "".join(
        f'[[kind]]\nkind = "{kind}"\ncolumn = "kind"\nmatches = "^{kind}$"\n'
        for kind in ("click", "browse", "add-to-cart", "purchase")
    )
    mapping.write_text(
        'name = "shop"\n[time]\ncolumn = "ts_ms"\nunit = "ms"\n[event]\nuser_id = "user_id"\nitem_id = "item_id"\n'
        + kinds
    )
    return events, mapping


def test_the_command_writes_report_and_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events, mapping = write_log(tmp_path)
    told = tmp_path / "build" / "train-shop.json"
    command = ["--events", f"{events}", "--map", f"{mapping}", "--out", f"{tmp_path / 'models'}", "--report", f"{told}"]
    assert main([*command, "--quick", "--no-encoder"]) == 0
    shown = capsys.readouterr().out
    for words in (
        "NDCG@10",
        "Guard of the counter net",
        "recall of the candidates",
        "The bundle serves with",
        "comes anyway",
        "Wrote",
    ):
        assert words in " ".join(shown.split())
    written = orjson.loads(told.read_bytes())
    made = tmp_path / "models" / written["version"]
    assert f"# Model card: {written['version']}" in (made / "card.md").read_text()
    assert (made / "card.png").stat().st_size > 10_000
    assert load(tmp_path / "models", written["version"], DEFAULT).report["served"] == written["served"]
    watcher = BundleWatcher(tmp_path / "models", DEFAULT, "cpu")
    assert watcher.poll() == written["version"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--events", "nowhere.csv", "--map", "deskdrop"], "There is no file"),
        (["--events", __file__, "--map", "nowhere.toml"], "neither a built-in mapping"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main([*arguments, "--out", f"{tmp_path}"]) == 1
    assert words in capsys.readouterr().err


def test_without_a_place_for_the_bundle_the_command_asks_for_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAIROS_MODEL_DIR", raising=False)
    assert main([]) == 2
    assert "--out DIR or KAIROS_MODEL_DIR" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "file", "baseline"),
    [
        ("deskdrop", "deskdrop_users_interactions.csv.zip", "popularity 1 h"),
        ("online-retail", "online_retail_2009_2010.parquet", "user frequency"),
    ],
)
def test_on_real_logs_a_quick_training_is_above_the_best_baseline(name: str, file: str, baseline: str) -> None:
    if not (REAL / file).exists():
        pytest.skip(f"{REAL / file} is not here: set KAIROS_DATA to the folder of the real logs")
    from model_server.training.recorded import RawEvent, record
    from streams.logs import logs, mapping

    log = logs.read_log(REAL / file, mapping.load(name))
    whole = record([RawEvent(e.stream, e.key, e.value) for e in log.events], log.items, DEFAULT, log.zone)
    quick = dataclasses.replace(TrainConfig().quick, lists=1_500, valid=300, test=500, encoder=None)
    trained = train(whole, DEFAULT, quick, Silent())
    told = report.report(trained, whole, 0)
    ranked = {ranker: parts["test"]["ndcg@10"] for ranker, parts in told["rankers"].items()}
    best = max(ranked[other] for other in trained.baselines)
    assert ranked[baseline] > best * 0.9
    assert ranked[told["served"]] > best
