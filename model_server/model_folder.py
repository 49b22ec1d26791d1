"""The folder of bundles: which versions lie in it, which one is in force, and who brought which into force when.

<folder>/<version>/          a bundle, see `model_server.bundle`
<folder>/current             the version in force
<folder>/promotions.jsonl    one line a change of `current`: when, from what, to what, by whom
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

CURRENT = "current"
PROMOTIONS = "promotions.jsonl"
BUNDLE = "bundle.json"

By = Literal["train", "promote", "undo"]


class FolderError(ValueError):
    """A folder that does not hold what was asked for; the text says what it holds."""


@dataclass(frozen=True)
class Promotion:
    """One change of what is in force; `before` is None where nothing was."""

    at_ms: int
    before: str | None
    version: str
    by: By


@dataclass(frozen=True)
class Listed:
    """A version as its own description tells it; `trouble` says why that cannot be read."""

    version: str
    trained_ms: int
    size_bytes: int
    document: dict[str, Any]
    trouble: str = ""


def current_version(folder: Path) -> str | None:
    """The version in force, None before any training."""
    try:
        return (folder / CURRENT).read_text("utf-8").strip() or None
    except FileNotFoundError:
        return None


def make_current(folder: Path, version: str, by: By, now_ms: int) -> Promotion:
    """Bring a version into force, in one step that readers see whole.

    It is written down first: a promotion that a kill cut short stands in the journal and was never in force, which
    `before_current` knows.
    """
    promotion = Promotion(now_ms, current_version(folder), version, by)
    with (folder / PROMOTIONS).open("ab") as journal:
        journal.write(orjson.dumps(asdict(promotion), option=orjson.OPT_APPEND_NEWLINE))
    draft = folder / f".{CURRENT}.{os.getpid()}"
    draft.write_text(version + "\n", "utf-8")
    draft.replace(folder / CURRENT)
    return promotion


def promotions(folder: Path) -> list[Promotion]:
    """The journal, oldest first; a line that a kill cut short is passed over."""
    try:
        lines = (folder / PROMOTIONS).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Promotion(**orjson.loads(line)))
        except (orjson.JSONDecodeError, TypeError):
            continue
    return found


def before_current(folder: Path) -> str | None:
    """What an undo goes back to: the version that the one in force replaced. Undo after undo goes further back."""
    current = current_version(folder)
    for promotion in reversed(promotions(folder)):
        if promotion.version == current and promotion.by != "undo" and promotion.before != current:
            return promotion.before
    return None


def versions(folder: Path) -> list[Listed]:
    """Every version in the folder, the newest first. Raises FolderError where there is no such folder."""
    if not folder.is_dir():
        message = f"There is no folder {folder}: set KAIROS_MODEL_DIR to where the bundles are, or run `kairos train`."
        raise FolderError(message)
    found = [_listed(path) for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(found, key=lambda one: (one.trained_ms, one.version), reverse=True)


def _listed(path: Path) -> Listed:
    sizes = [part.stat().st_size for part in path.iterdir() if part.is_file()]
    try:
        description = path / BUNDLE
        document = orjson.loads(description.read_bytes())
        trained_ms = description.stat().st_mtime_ns // 1_000_000
        if not isinstance(document, dict):
            return Listed(path.name, trained_ms, sum(sizes), {}, f"{BUNDLE} holds no object")
    except (OSError, ValueError) as error:
        what = f"{BUNDLE} cannot be read ({type(error).__name__})"
        return Listed(path.name, path.stat().st_mtime_ns // 1_000_000, sum(sizes), {}, what)
    return Listed(path.name, trained_ms, sum(sizes), document)


def found(folder: Path, name: str) -> Listed:
    """The version of this name, or the only one whose name begins so. Raises FolderError."""
    there = versions(folder)
    meant = [one for one in there if one.version == name] or [one for one in there if one.version.startswith(name)]
    if len(meant) == 1:
        return meant[0]
    if meant:
        message = f"{name} may be {' or '.join(one.version for one in meant)}: write more of it."
    elif there:
        message = f"{folder} has no version {name}; it has {', '.join(one.version for one in there)}."
    else:
        message = f"{folder} holds no bundle yet: run `kairos train`."
    raise FolderError(message)


def old_versions(folder: Path, keep: int) -> list[Listed]:
    """What may go: all but the `keep` newest, the one in force and the one that an undo goes back to."""
    needed = {current_version(folder), before_current(folder)}
    return [one for one in versions(folder)[keep:] if one.version not in needed]


def remove(folder: Path, version: str) -> None:
    """Delete a version; a worker that loads it at this moment sees the whole of it or nothing."""
    gone = folder / f".{version}.gone"
    shutil.rmtree(gone, ignore_errors=True)
    (folder / version).rename(gone)
    shutil.rmtree(gone)
