"""A log is read piece by piece, the same lines however it is cut, and a line that cannot be read is named."""

from __future__ import annotations

import zipfile
from pathlib import Path

import orjson
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.logs.columns import LogError
from streams.logs.pieces import Form, pieces, sniffed

ROWS = [{"who": f"u{n}", "what": f"i{n % 3}", "at": str(1_700_000_000 + n)} for n in range(10)]


def written(folder: Path, kind: str) -> Path:
    path = folder / f"log.{kind}"
    if kind == "csv":
        path.write_text("who,what,at\n" + "".join(f"{r['who']},{r['what']},{r['at']}\n" for r in ROWS))
    elif kind == "jsonl":
        path.write_bytes(b"\n".join(map(orjson.dumps, ROWS)) + b"\n\n")
    elif kind == "parquet":
        pd.DataFrame(ROWS).to_parquet(path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(written(folder, "csv"), "log.csv")
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "zip"])
@pytest.mark.parametrize("lines", [1, 3, 100])
def test_every_form_gives_the_same_lines_however_it_is_cut(tmp_path: Path, kind: str, lines: int) -> None:
    found = list(pieces(written(tmp_path, kind), lines=lines))
    assert max(len(piece) for piece in found) == min(lines, 10)
    texts = {name: [text for piece in found for text in piece.texts(name).tolist()] for name in ("who", "what", "at")}
    assert texts == {name: [row[name] for row in ROWS] for name in texts}


def refusal(path: Path, form: Form | None = None) -> str:
    with pytest.raises(LogError) as caught:
        list(pieces(path, form, lines=4))
    return str(caught.value)


@given(bad=st.integers(0, 9))
def test_a_line_with_too_many_fields_is_named_and_so_are_the_good_ones(
    tmp_path_factory: pytest.TempPathFactory, bad: int
) -> None:
    path = written(tmp_path_factory.mktemp("log"), "csv")
    lines = path.read_text().splitlines()
    lines[bad + 1] += ",more,and more"
    path.write_text("\n".join(lines) + "\n")
    why = "it has 5 fields, the first line has 3"
    assert refusal(path) == f"log.csv is malformed in line {bad + 2}: {why}. Good lines before it: {bad}."


@pytest.mark.parametrize(
    ("line", "why"),
    [(b'{"who": ', "it is no JSON: "), (b"[1]", "it is no JSON object. "), (b"\xff", "it is no JSON: ")],
)
def test_a_line_that_is_no_json_object_is_named(tmp_path: Path, line: bytes, why: str) -> None:
    path = written(tmp_path, "jsonl")
    parts = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*parts[:6], line, *parts[6:]]))
    said = refusal(path)
    assert said.startswith(f"log.jsonl is malformed in line 7: {why}")
    assert said.endswith("Good lines before it: 6.")


def test_a_line_of_another_encoding_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "csv")
    path.write_bytes(path.read_bytes().replace(b"u4", b"\xe9"))
    said = refusal(path, Form("utf-8"))
    assert said.startswith("log.csv is malformed in line 6: it is not utf-8; set [file] encoding in the mapping.")


def test_encoding_and_delimiter_are_sniffed(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes("who;what\nJosé;a,b\n".encode("latin-1"))
    assert sniffed(path) == Form("latin-1", ";")
    (piece,) = pieces(path)
    assert piece.texts("who").tolist() == ["José"]
    assert sniffed(written(tmp_path, "jsonl")) == Form()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "There is no file "),
        ("log.xml", b"<a/>", "log.xml is neither .csv, .jsonl nor .parquet"),
        ("log.csv", b"", "log.csv is empty"),
        ("log.parquet", b"PAR", "log.parquet is malformed: "),
        ("log.zip", b"PK", "log.zip cannot be read: "),
    ],
)
def test_what_is_no_log_is_said(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert refusal(path).startswith(said)


def test_a_field_may_hold_lines_and_a_line_may_end_early(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text('\ufeffwho,what\n"a\nb",x\n\nc\nd,y,z\n', "utf-8")
    assert refusal(path).startswith("log.csv is malformed in line 6: ")
    path.write_text('\ufeffwho,what\n"a\nb",x\n\nc\n', "utf-8")
    (piece,) = pieces(path)
    assert piece.texts("who").tolist() == ["a\nb", "c"]
    assert piece.texts("what").tolist() == ["x", None]


def test_a_column_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("who,what,who\n1,2,3\n")
    assert refusal(path) == "log.csv has more than one column 'who': rename all but one."


@pytest.mark.parametrize("at", [0, 4, 9])
def test_a_quote_that_is_never_closed_is_named(tmp_path: Path, at: int) -> None:
    path = written(tmp_path, "csv")
    lines = path.read_text().splitlines()
    lines[at + 1] = '"' + lines[at + 1]
    path.write_text("\n".join(lines))
    why = "a quote is opened in it and never closed"
    assert refusal(path) == f"log.csv is malformed in line {at + 2}: {why}. Good lines before it: {at}."
