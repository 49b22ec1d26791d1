"""Each title is read once and kept on disk, whatever happens to the file."""

from pathlib import Path

import numpy as np
import pytest

from model_server.text.back_end import keys_of
from tests.titled import Words, library


def test_a_title_is_read_once_and_a_changed_one_again(tmp_path: Path) -> None:
    words = Words()
    reading = library(tmp_path, words)
    first = reading.vectors(["red mug", "", "blue rug", "red mug"])
    assert sorted(words.read) == ["blue rug", "red mug"]
    assert (first[0].tolist(), first[1].any()) == (first[3].tolist(), False)
    assert library(tmp_path, other := Words()).vectors(["blue rug", " red  mug"]).tolist() == first[[2, 0]].tolist()
    assert other.read == []
    reading.vectors(["red mugs", "blue rug"])
    assert words.read[2:] == ["red mugs"]


def test_vectors_of_another_back_end_are_not_taken(tmp_path: Path) -> None:
    library(tmp_path, Words("words-1")).vectors(["red mug"])
    library(tmp_path, other := Words("words-2")).vectors(["red mug"])
    assert other.read == ["red mug"]


def test_a_record_that_a_kill_cut_short_costs_that_record_only(tmp_path: Path) -> None:
    library(tmp_path).vectors(["red mug"])
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    library(tmp_path).vectors(["blue rug"])
    file.write_bytes(file.read_bytes()[:-5])
    words = Words()
    reading = library(tmp_path, words)
    reading.vectors(["red mug", "blue rug"])
    assert words.read == ["blue rug"]
    assert len(file.read_bytes()) == 2 * len(whole)
    assert library(tmp_path, late := Words()).vectors(["blue rug"]).any()
    assert late.read == []


def test_what_is_no_vector_is_read_again(tmp_path: Path) -> None:
    library(tmp_path).vectors(["red mug"])
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:8] + b"\xff" * (len(file.read_bytes()) - 8))
    words = Words()
    assert np.isfinite(library(tmp_path, words).vectors(["red mug"])).all()
    assert words.read == ["red mug"]


def test_a_folder_that_cannot_be_written_costs_the_cache_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "a file"
    file.write_text("")
    reading = library(file / "titles")
    assert reading.vectors(["red mug"]).any()
    reading.vectors(["blue mug"])
    assert len([line for line in caplog.messages if "not kept on disk" in line]) == 1


def test_keys_of_titles_do_not_see_spaces_and_know_nothing() -> None:
    one, same, other, *nothing = keys_of(["红色 外套", " 红色  外套\n", "红色外套", "", "  "]).tolist()
    assert one == same != other
    assert nothing == [0, 0]
