"""Files for a back-fill, made ready: one event in our own schema a line, whatever they came as."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

from streams.features.declaration import Declaration
from streams.logs.columns import LogError
from streams.logs.logs import Reading
from streams.logs.mapping import MappingError, fitting, load
from streams.logs.pieces import JSON, opened, pieces
from streams.replay.job import FileJob
from streams.replay.lines import FileError, Surveyed, survey_lines

OWN = re.compile(rb'^\s*\{(?=.*"user_id")(?=.*"item_id")(?=.*"kind")(?=.*"ts_ms")')


class Prepared(NamedTuple):
    """A file and what lies ready of it; `about` says in words what a mapping made of it, else it is empty."""

    name: str
    path: Path
    surveyed: Surveyed
    about: str = ""

    @property
    def topic(self) -> str:
        """The name under which its positions are fenced; only of characters that a header may hold."""
        return "file:" + re.sub(r"[^A-Za-z0-9._-]", "_", self.name)

    def job(self, partitions: int) -> FileJob:
        """As a child reads it."""
        return FileJob(str(self.path.resolve()), self.topic, self.surveyed.id, self.surveyed.lines, partitions)


def prepare(path: Path, mapping: str | None, declaration: Declaration, folder: Path) -> Prepared:
    """Read a file once, and put into `folder` what has to be written anew. Raises FileError with a sentence."""
    try:
        if mapping is not None:
            return _mapped(path, mapping, declaration, folder)
        return _own(path, folder)
    except (LogError, MappingError) as error:
        raise FileError(str(error)) from error


def _mapped(path: Path, mapping: str, declaration: Declaration, folder: Path) -> Prepared:
    reading = Reading(path, load(mapping, declaration))
    plain = folder / f"{path.name}.jsonl"
    with plain.open("wb") as file:
        for batch in reading.batches():
            file.writelines(event.value + b"\n" for event in batch)
    return Prepared(path.name, plain, survey_lines(plain, path.name), str(reading.cleaner.cleaning))


def _own(path: Path, folder: Path) -> Prepared:
    plain = path
    with opened(path) as (name, content):
        if path.suffix.lower() == ".zip":
            plain = folder / f"{path.name}.jsonl"
            with plain.open("wb") as file:
                shutil.copyfileobj(content, file)
    with plain.open("rb") as file:
        first = next((line for line in file if not line.isspace()), b"")
    if not name.endswith(JSON) or not OWN.match(first):
        columns = next(pieces(path)).names
        listed = ", ".join(map(repr, columns))
        message = (
            f"{path.name} is not in the schema of our events and needs --map MAPPING; its columns are "
            f"{listed}.{fitting(columns)}"
        )
        raise FileError(message)
    return Prepared(path.name, plain, survey_lines(plain, path.name))
