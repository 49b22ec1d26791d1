"""Files for a back-fill, made ready: one event in our own schema a line, whatever they came as."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import orjson

from streams.features.declaration import Declaration
from streams.logs.columns import LogError
from streams.logs.logs import Reading
from streams.logs.mapping import MappingError, fitting, load
from streams.logs.pieces import JSON, opened, pieces
from streams.replay.job import CATALOGUE, FILE, FileJob
from streams.replay.lines import FileError, Surveyed, survey_lines

OWN = re.compile(rb'^\s*\{(?=.*"user_id")(?=.*"item_id")(?=.*"kind")(?=.*"ts_ms")')


class ToldItems(NamedTuple):
    """The items that a file tells, ready as catalogue records, one a line; `fields` is what it tells of them."""

    path: Path
    id: str
    items: int
    fields: Sequence[str]


class Prepared(NamedTuple):
    """A file and what lies ready of it; `about` says in words what a mapping made of it, else it is empty."""

    name: str
    path: Path
    surveyed: Surveyed
    about: str = ""
    told: ToldItems | None = None

    @property
    def topic(self) -> str:
        """The name under which its positions are fenced; only of characters that a header may hold."""
        return FILE + re.sub(r"[^A-Za-z0-9._-]", "_", self.name)

    def job(self, partitions: int) -> FileJob:
        """Its events, as a child reads them."""
        return FileJob(str(self.path.resolve()), self.topic, self.surveyed.id, self.surveyed.lines, partitions)

    def catalogue(self, partitions: int) -> FileJob:
        """Its items, as a child reads them. Raises FileError where it tells none."""
        if self.told is None:
            why = "its mapping has no [item]" if self.about else "events tell no titles"
            message = f"{self.name} has no items to tell, {why}: leave --catalogue out, or send them to items.v1."
            raise FileError(message)
        topic = CATALOGUE + self.topic.removeprefix(FILE)
        return FileJob(str(self.told.path.resolve()), topic, self.told.id, self.told.items, partitions, "items")


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
    hashed, times = blake2b(digest_size=16), (1 << 62, 0)
    with plain.open("wb") as file:
        for batch in reading.batches():
            lines = b"".join([event.value + b"\n" for event in batch])
            hashed.update(lines)
            file.write(lines)
            stamps = [event.ts_ms for event in batch]
            times = min(times[0], *stamps), max(times[1], *stamps)
    events = reading.cleaner.cleaning.events
    told = _told(reading, folder) if reading.mapping.item else None
    surveyed = Surveyed(events, events, *times, hashed.hexdigest())
    return Prepared(path.name, plain, surveyed, str(reading.cleaner.cleaning), told)


def _told(reading: Reading, folder: Path) -> ToldItems:
    path, hashed = folder / f"{reading.path.name}.items.jsonl", blake2b(digest_size=16)
    items = reading.cleaner.catalogue.items()
    with path.open("wb") as file:
        for item in items.values():
            line = orjson.dumps(item) + b"\n"
            hashed.update(line)
            file.write(line)
    return ToldItems(path, hashed.hexdigest(), len(items), list(reading.mapping.item))


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
