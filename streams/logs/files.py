"""Opens the file of a log, zipped or not, as a data frame of texts, and says where one that is malformed goes wrong."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import orjson

from streams.logs.columns import LogError

MAX_PROBLEM_CHARS = 300
JSON_LINES = (".jsonl", ".ndjson", ".json")
TABLES = (".csv", ".tsv", ".txt")


def frame(path: Path, delimiter: str = ",", encoding: str = "utf-8") -> Any:
    """All columns of a file. Raises LogError with the line at fault and how many before it were good."""
    import pandas as pd

    name, content = opened(path)
    try:
        if name.endswith(".parquet"):
            return pd.read_parquet(content)
        if name.endswith(JSON_LINES):
            return pd.DataFrame(_objects(path.name, content), dtype=object)
        if name.endswith(TABLES):
            return pd.read_csv(
                content, dtype=str, sep=delimiter, encoding=encoding, keep_default_na=False, na_values=[""]
            )
    except (ValueError, OSError, ImportError) as problem:
        where = _where(problem, content, encoding) if name.endswith(TABLES) else ""
        msg = f"{path.name} cannot be read: {str(problem)[:MAX_PROBLEM_CHARS].strip()}.{where}"
        raise LogError(msg) from problem
    msg = f"{name} is neither .csv, .jsonl nor .parquet (a .zip may hold one of them)."
    raise LogError(msg)


def opened(path: Path) -> tuple[str, io.BytesIO]:
    """Lower-case name and bytes of a log; of a .zip, of the one file it holds. Raises LogError."""
    if not path.is_file():
        msg = f"There is no file {path}."
        raise LogError(msg)
    if path.suffix.lower() != ".zip":
        return path.name.lower(), io.BytesIO(path.read_bytes())
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
            if len(names) != 1:
                msg = f"{path.name} holds {len(names)} files; a zipped log must hold exactly one."
                raise LogError(msg)
            return names[0].lower(), io.BytesIO(archive.read(names[0]))
    except (OSError, zipfile.BadZipFile) as problem:
        msg = f"{path.name} cannot be read: {str(problem)[:MAX_PROBLEM_CHARS]}."
        raise LogError(msg) from problem


def _objects(name: str, content: io.BytesIO) -> list[Any]:
    found = []
    for number, line in enumerate(content.read().splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(orjson.loads(line))
        except ValueError as problem:
            msg = f"{name} cannot be read: line {number}: {problem}. The {len(found):,} lines before it were good."
            raise LogError(msg) from problem
    return found


def _where(problem: Exception, content: io.BytesIO, encoding: str) -> str:
    """A sentence about the line at fault, empty where the reader does not say."""
    if isinstance(problem, UnicodeDecodeError):
        whole = content.getvalue()
        try:
            whole.decode(encoding)
        except UnicodeDecodeError as error:
            line = whole.count(b"\n", 0, error.start) + 1
            return f" Line {line} is not {encoding}; the {max(line - 2, 0):,} lines before it were good."
        return ""
    found = re.search(r"(?:in line|at row) (\d+)", str(problem))
    return f" The {max(int(found[1]) - 2, 0):,} lines before it were good." if found else ""
