"""`kairos export USER`: all that is kept of a person, as one JSON document."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from rich.console import Group
from rich.table import Table
from rich.text import Text

from schemas.faults import bad_ids
from streams.opened import Tables
from streams.operations.collecting import SECTIONS, Collector
from streams.service import logs, settings
from streams.service.verb import BAD, GOOD, Telling, parser
from streams.settings import ReadSettings

TYPED_WRONGLY = 2
FOR_THE_OWNER = 0o600


def verb(argv: list[str]) -> int:
    """`kairos export USER`: 0 all that is kept is told; 1 nothing is kept, or something could not be reached."""
    about = "Tell all that is kept of a user: rows, pushes, decisions, and the user's records that Kafka still holds."
    asked = parser("export", about, ReadSettings, acts=False)
    asked.add_argument("user", help="the user_id of the events")
    asked.add_argument("--out", type=Path, metavar="FILE", help="write the document there, readable by its owner alone")
    arguments = asked.parse_args(argv)
    read = settings.read(ReadSettings, os.environ)
    logs.setup(read.shell.log, "error")
    tell = Telling(as_json=arguments.json)
    for _, _, sentence in bad_ids("user_id", [arguments.user]):
        tell.complain(sentence)
        return tell.end(TYPED_WRONGLY)
    if arguments.out is not None:
        _write(arguments.out, b"")  # what cannot be written is better known before everything is read
    return tell.end(asyncio.run(_export(read, tell, arguments.user, arguments.out)))


async def _export(read: ReadSettings, tell: Telling, user: str, out: Path | None) -> int:
    tables = Tables(read)
    try:
        document = await Collector(read, tables, tell, user).collect()
    finally:
        await tables.close()
    tell.facts(**document)
    tell.page(page(document))
    if out is not None:
        _write(out, orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
        tell.page(Text(f"Written to {out}."))
    elif anything(document):
        tell.page("[dim]--out FILE writes the document, --json prints it.[/]")
    for section, why in document["not_reached"].items():
        tell.complain(f"Not whole: {section.replace('_', ' ')}. {why}")
    if not anything(document):
        seen = ", as far as it could be reached" if document["not_reached"] else ""
        tell.complain(f"Nothing is kept of user {user}{seen}.")
        return BAD
    return BAD if document["not_reached"] else GOOD


def anything(document: Mapping[str, Any]) -> bool:
    """Whether a document holds anything of the user; a tombstone is something too."""
    names = ("row", "rescore", "pushes", "shadow_pushes", "erased_ms")
    kept = [each[name] for each in document["namespaces"] for name in names]
    return any(kept) or any(document[section] for section in SECTIONS.values())


def page(document: Mapping[str, Any]) -> Group:
    """What a document holds, for people."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in ("", "kept"):
        table.add_column(name)
    for each in document["namespaces"]:
        where = f"namespace {each['namespace']}" + (f" ({', '.join(each['in_force'])})" if each["in_force"] else "")
        table.add_row(Text(where), ", ".join(_words(each)) or "nothing")
    for section in SECTIONS.values():
        count = len(document[section])
        table.add_row(
            section.replace("_", " "), "not reached" if section in document["not_reached"] else f"{count} records"
        )
    return Group(Text(f"What is kept of user {document['user_id']}", style="bold"), table)


def _words(namespace: Mapping[str, Any]) -> list[str]:
    """What one namespace keeps."""
    row, pushes, rescore = namespace["row"], namespace["pushes"], namespace["rescore"]
    words = [f"a row of {row['row_bytes']} bytes"] if row else []
    words += [f"{len(pushes)} pushes"] if pushes else []
    words += [f"{len(shadow)} pushes of a shadow"] if (shadow := namespace["shadow_pushes"]) else []
    words += [rescore["state"]] if rescore else []
    return words + (["a tombstone"] if namespace["erased_ms"] else [])


def _write(path: Path, text: bytes) -> None:
    """Write a file that nobody but its owner may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FOR_THE_OWNER), "wb") as file:
        file.write(text)
