"""The one reader of foreign logs: any size, piece by piece; a line that cannot be read is named by its number."""

from __future__ import annotations

import csv
import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from streams.logs.columns import Lines, LogError

PIECE_LINES = 20_000
SNIFFED_BYTES = 64 * 1024
DELIMITERS = (",", ";", "\t", "|")
CSV, JSON, PARQUET = (".csv", ".tsv", ".txt"), (".jsonl", ".ndjson", ".json"), (".parquet",)
END = "\x1eend of the log\x1e"
"""Follows the last line of a CSV: what an open quote swallows to the end of the file would else be one long field."""


class Form(NamedTuple):
    """How the text of a log is read."""

    encoding: str = "utf-8"
    delimiter: str = ","


def pieces(path: Path, form: Form | None = None, lines: int = PIECE_LINES) -> Iterator[Lines]:
    """The lines of a log, so many at a time; `form` is sniffed where none is given. Raises LogError.

    There is at least one piece, which is empty where the log has columns and no line. The error of a malformed file
    says in which line it is and how many lines before it were good.
    """
    with opened(path) as (name, content):
        if name.endswith(PARQUET):
            yield from _parquet(content, path, lines)
        elif name.endswith(JSON):
            yield from _json(content, path, lines)
        elif name.endswith(CSV):
            yield from _csv(content, path, form or sniffed(path), lines)
        else:
            msg = f"{name} is neither .csv, .jsonl nor .parquet (a .zip may hold one of them)."
            raise LogError(msg)


def is_json(path: Path) -> bool:
    """Whether a log, or what its .zip holds, is JSON lines. Raises LogError."""
    with opened(path) as (name, _):
        return name.endswith(JSON)


def sniffed(path: Path) -> Form:
    """Encoding and delimiter by the beginning of a log; what is no CSV keeps the default. Raises LogError."""
    with opened(path) as (name, content):
        if not name.endswith(CSV):
            return Form()
        beginning = content.read(SNIFFED_BYTES)
    try:
        # A letter of several bytes may be cut at the end.
        head, encoding = beginning.decode("utf-8", "strict" if len(beginning) < SNIFFED_BYTES else "ignore"), "utf-8"
    except UnicodeDecodeError:
        head, encoding = beginning.decode("latin-1"), "latin-1"
    header = head.partition("\n")[0]
    return Form(encoding, max(DELIMITERS, key=header.count) if header else ",")


@contextmanager
def opened(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Lower-case name and stream of a log; of a .zip, of the one file it holds. Raises LogError."""
    if not path.is_file():
        msg = f"There is no file {path}."
        raise LogError(msg)
    try:
        if path.suffix.lower() != ".zip":
            with path.open("rb") as content:
                yield path.name.lower(), content
            return
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
            if len(names) != 1:
                msg = f"{path.name} holds {len(names)} files; a zipped log must hold exactly one."
                raise LogError(msg)
            with archive.open(names[0]) as content:
                yield names[0].lower(), content
    except (OSError, zipfile.BadZipFile) as problem:
        msg = f"{path.name} cannot be read: {problem}."
        raise LogError(msg) from problem


def _csv(content: IO[bytes], path: Path, form: Form, lines: int) -> Iterator[Lines]:
    """Lines of texts; an empty field is none, and a line that ends early lacks the last fields."""
    text = io.TextIOWrapper(content, encoding=form.encoding, newline="")
    reader, good = csv.reader(chain(text, (END,)), delimiter=form.delimiter), 0
    try:
        header = _header(reader, path)
        first = True
        while (batch := list(islice(_rows(reader, header, path, good), lines))) or first:
            first, good = False, good + len(batch)
            yield _lines(batch, header)
    except csv.Error as problem:
        raise _malformed(path, reader.line_num, good, str(problem)) from problem
    except UnicodeDecodeError as problem:
        line = _line_of(path, form.encoding)
        why = f"it is not {form.encoding}; set [file] encoding in the mapping"
        raise _malformed(path, line, max(0, line - 2), why) from problem
    finally:
        text.detach()


def _header(reader: Iterator[list[str]], path: Path) -> list[str]:
    names = next(reader, [END])
    if names in ([], [END]):
        msg = f"{path.name} is empty: a log begins with the names of its columns."
        raise LogError(msg)
    names[0] = names[0].removeprefix("\ufeff")
    if twice := sorted(name for name, n in Counter(names).items() if n > 1):
        msg = f"{path.name} has more than one column {', '.join(map(repr, twice))}: rename all but one."
        raise LogError(msg)
    return names


def _rows(reader: Any, header: Sequence[str], path: Path, good: int) -> Iterator[Sequence[str | None]]:
    wide, began = len(header), reader.line_num
    for row in reader:
        if row and row[-1].endswith(END):
            if row != [END]:
                raise _malformed(path, began + 1, good, "a quote is opened in it and never closed")
            return
        if len(row) > wide:
            raise _malformed(path, began + 1, good, f"it has {len(row)} fields, the first line has {wide}")
        began = reader.line_num
        if row:
            good += 1
            whole = len(row) == wide and "" not in row
            yield row if whole else [field or None for field in row] + [None] * (wide - len(row))


def _lines(rows: Sequence[Any], names: Sequence[str] | None = None) -> Lines:
    import pandas as pd

    return Lines(pd.DataFrame(rows, columns=None if names is None else list(names), dtype=object))


def _json(content: IO[bytes], path: Path, lines: int) -> Iterator[Lines]:
    number, good = 0, 0
    while batch := list(islice(content, lines)):
        parsed = []
        for line in batch:
            number += 1
            if not line.strip():
                continue
            try:
                entry = orjson.loads(line)
            except orjson.JSONDecodeError as problem:
                raise _malformed(path, number, good, f"it is no JSON: {problem}") from problem
            if not isinstance(entry, dict):
                raise _malformed(path, number, good, "it is no JSON object")
            parsed.append(entry)
            good += 1
        if parsed:
            yield _lines(parsed)
    if not good:
        msg = f"{path.name} is empty."
        raise LogError(msg)


def _parquet(content: IO[bytes], path: Path, lines: int) -> Iterator[Lines]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    good = 0
    try:
        file = pq.ParquetFile(content if content.seekable() else io.BytesIO(content.read()))
        batches: Iterable[Any] = file.iter_batches(lines)
        for batch in chain(batches, () if file.metadata.num_rows else (file.schema_arrow.empty_table(),)):
            # Numbers stay the whole numbers that they are where others of their column are missing.
            yield Lines(batch.to_pandas(integer_object_nulls=True))
            good += len(batch)
    except (pa.ArrowException, OSError) as problem:
        raise _malformed(path, None, good, str(problem)) from problem


def _malformed(path: Path, line: int | None, good: int, why: str) -> LogError:
    where = "" if line is None else f" in line {line:,}"
    msg = f"{path.name} is malformed{where}: {why[:300].rstrip('.')}. Good lines before it: {good:,}."
    return LogError(msg)


def _line_of(path: Path, encoding: str) -> int:
    """The first line that is not of the encoding."""
    with opened(path) as (_, content):
        for number, line in enumerate(content, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError:
                return number
    return 0
