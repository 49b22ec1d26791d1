"""`kairos models`: which bundles there are, how good they are, and which one is in force; change that, and go back."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from model_server.model_folder import (
    By,
    FolderError,
    Listed,
    before_current,
    current_version,
    found,
    make_current,
    old_versions,
    promotions,
    remove,
    versions,
)
from streams.features.declaration import DEFAULT
from streams.features.features_file import load as load_declaration
from streams.service import logs, settings
from streams.service.arguments import whole_number
from streams.service.clock import Clock
from streams.service.settings import Log, setting
from streams.service.verb import BAD, GOOD, Telling, parser

if TYPE_CHECKING:
    from collections.abc import Callable

METRIC = "ndcg@10"
KEEP = 10


@dataclass(frozen=True)
class ModelTools:
    """What `kairos models` needs."""

    shell: Log
    model_dir: str | None = setting("KAIROS_MODEL_DIR", "Folder of model bundles.", default=None)
    features: Path | None = setting("KAIROS_FEATURES", "features.toml over the default declaration.", default=None)


def verb(argv: list[str]) -> int:
    """`kairos models`: 0 when it is done or planned, 1 with a sentence when it cannot be."""
    asked = parser("models", "The bundles in KAIROS_MODEL_DIR, and which one is in force.", ModelTools, acts=False)
    ways = asked.add_subparsers(dest="way", required=True, metavar="list|show|promote|undo|prune")
    _way(ways, "list", "every bundle, the newest first")
    _way(ways, "show", "how a bundle was judged, and when it was in force").add_argument(
        "version", nargs="?", help="a version or the beginning of one (default: the one in force)"
    )
    promote = _way(ways, "promote", "bring a bundle into force; workers take it over within seconds", acts=True)
    promote.add_argument("version", help="a version or the beginning of one")
    _way(ways, "undo", "go back to the bundle that the one in force replaced; again for the one before", acts=True)
    prune = _way(ways, "prune", "delete old bundles, never the one in force nor the one before it", acts=True)
    prune.add_argument("--keep", type=whole_number, default=KEEP, help="how many of the newest stay (%(default)s)")
    arguments = asked.parse_args(argv)
    read = settings.read(ModelTools, os.environ)
    logs.setup(read.shell.log, "error")
    telling = Telling(as_json=arguments.json)
    if read.model_dir is None:
        telling.complain("Set KAIROS_MODEL_DIR to the folder of the bundles.")
        return telling.end(BAD)
    try:
        return telling.end(WAYS[arguments.way](Bundles(Path(read.model_dir), read, telling), arguments))
    except (FolderError, OSError) as error:
        telling.complain(str(error))
        return telling.end(BAD)


def _way(ways: Any, name: str, about: str, *, acts: bool = False) -> argparse.ArgumentParser:
    way: argparse.ArgumentParser = ways.add_parser(name, help=about, description=f"{about[:1].upper()}{about[1:]}.")
    # Before or after the way's name, as people type it.
    way.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object instead of a page")
    if acts:
        way.add_argument("--execute", action="store_true", help="do it; without this the plan is all that happens")
    return way


@dataclass(frozen=True)
class Bundles:
    """Where the bundles are, what they must fit, and who is told."""

    folder: Path
    read: ModelTools
    telling: Telling


def _list(bundles: Bundles, arguments: argparse.Namespace) -> int:  # noqa: ARG001
    there, current = versions(bundles.folder), current_version(bundles.folder)
    bundles.telling.facts(folder=str(bundles.folder), current=current, versions=[_plain(one, current) for one in there])
    table = Table(title=str(bundles.folder), box=None)
    for name in ("", "version", "trained", "serves"):
        table.add_column(name, no_wrap=True)
    for name in ("events", "NDCG@10 valid", "test", "over the blend", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in there:
        mark = "[green]●[/]" if one.version == current else ""
        table.add_row(mark, escape(one.version), _day(one.trained_ms), *_cells(one), f"{one.size_bytes / 1e6:.1f}")
    bundles.telling.page(table if there else f"{bundles.folder} holds no bundle yet: run `kairos train`.")
    if current is not None and current not in {one.version for one in there}:
        bundles.telling.complain(f"The version in force, {current}, is not there: promote another.")
        return BAD
    return GOOD


def _show(bundles: Bundles, arguments: argparse.Namespace) -> int:
    current = current_version(bundles.folder)
    name = arguments.version or current
    if name is None:
        message = f"No bundle is in force in {bundles.folder}: the blend of the lists serves. See `kairos models list`."
        raise FolderError(message)
    one = found(bundles.folder, name)
    moves = [move for move in promotions(bundles.folder) if one.version in {move.version, move.before}]
    bundles.telling.facts(**_plain(one, current), document=one.document, promotions=[asdict(move) for move in moves])
    trouble = cannot_serve(bundles, one)
    bundles.telling.facts(trouble=trouble)
    bundles.telling.page(f"[bold]{escape(one.version)}[/]{', in force' if one.version == current else ''}")
    if one.document.get("report", {}).get("rankers"):
        from model_server.training.report import sentences, table

        bundles.telling.page(table(one.document["report"]))
        for sentence in sentences(one.document["report"]):
            bundles.telling.page(escape(sentence))
    for move in moves:
        bundles.telling.page(escape(f"{_day(move.at_ms)}  {move.by}: {move.before or 'nothing'} -> {move.version}"))
    if trouble:
        bundles.telling.complain(f"It cannot serve: {trouble}.")
    return BAD if trouble else GOOD


def _promote(bundles: Bundles, arguments: argparse.Namespace) -> int:
    return _bring(bundles, found(bundles.folder, arguments.version), "promote", execute=arguments.execute)


def _undo(bundles: Bundles, arguments: argparse.Namespace) -> int:
    before = before_current(bundles.folder)
    if before is None:
        current = current_version(bundles.folder) or "any bundle"
        message = f"Nothing was in force before {current}: there is nothing to go back to."
        raise FolderError(message)
    return _bring(bundles, found(bundles.folder, before), "undo", execute=arguments.execute)


def _bring(bundles: Bundles, one: Listed, by: By, *, execute: bool) -> int:
    current = current_version(bundles.folder)
    plan = {"from": current, "to": one.version, "by": by}
    if one.version == current:
        bundles.telling.facts(plan=plan, executed=False)
        bundles.telling.page(f"{one.version} is in force already.")
        return GOOD
    if trouble := cannot_serve(bundles, one):
        bundles.telling.facts(plan=plan, executed=False)
        bundles.telling.complain(f"{one.version} stays out of force, for it cannot serve: {trouble}.")
        return BAD
    shown = f"{one.version} comes into force in the place of {current or 'the blend of the lists'}:\n"
    shown += "\n".join(
        f"  {_told(there)}" for there in versions(bundles.folder) if there.version in {one.version, current}
    )
    bundles.telling.plan(plan, shown, execute=execute)
    if execute:
        make_current(bundles.folder, one.version, by, Clock()())
        bundles.telling.page(f"[green]✓[/] {one.version} is in force; `kairos models undo` goes back")
    return GOOD


def _prune(bundles: Bundles, arguments: argparse.Namespace) -> int:
    old = old_versions(bundles.folder, arguments.keep)
    megabytes = sum(one.size_bytes for one in old) / 1e6
    shown = "\n".join([f"{len(old)} bundles go, {megabytes:.1f} MB:", *(f"  {_told(one)}" for one in old)])
    if not old:
        bundles.telling.facts(plan={"remove": []}, executed=False)
        bundles.telling.page("Nothing to delete.")
        return GOOD
    bundles.telling.plan({"remove": [one.version for one in old]}, shown, execute=arguments.execute)
    if arguments.execute:
        for one in old:
            remove(bundles.folder, one.version)
        bundles.telling.page(f"[green]✓[/] {len(old)} bundles deleted")
    return GOOD


WAYS: dict[str, Callable[[Bundles, argparse.Namespace], int]] = {
    "list": _list,
    "show": _show,
    "promote": _promote,
    "undo": _undo,
    "prune": _prune,
}


def cannot_serve(bundles: Bundles, one: Listed) -> str:
    """Why a worker would refuse the bundle, "" where it would not: it is read, built and run once as a worker does."""
    from model_server.bundle import BundleError, load, ranker_of

    declaration = DEFAULT if bundles.read.features is None else load_declaration(bundles.read.features)
    try:
        ranker_of(load(bundles.folder, one.version, declaration), declaration, "cpu")
    except BundleError as error:
        return str(error)
    return ""


def _plain(one: Listed, current: str | None) -> dict[str, Any]:
    return {
        "version": one.version,
        "current": one.version == current,
        "trained_ms": one.trained_ms,
        "size_bytes": one.size_bytes,
        "serves": _report(one).get("served"),
        "trouble": one.trouble,
        METRIC: {part: _ndcg(one, part) for part in ("valid", "test")},
    }


def _told(one: Listed) -> str:
    serves, _, valid, test, over = _cells(one)
    version = f"{escape(one.version)}  trained {_day(one.trained_ms)}"
    return f"{version}, {serves}, NDCG@10 valid {valid}, test {test}, over the blend {over}"


def _cells(one: Listed) -> tuple[str, str, str, str, str]:
    """What serves, events learned from, NDCG@10 on valid and test, and the gain over the blend with its interval."""
    if one.trouble:
        return f"[red]{escape(one.trouble)}[/]", "", "", "", ""
    report = _report(one)
    gain = report.get("gain over", {}).get("wide rank blend")
    over = f"{gain[METRIC]:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]" if gain else "–"
    numbers = (_ndcg(one, "valid"), _ndcg(one, "test"))
    valid, test = ("–" if number is None else f"{number:.4f}" for number in numbers)
    events = report.get("events")
    return str(report.get("served", "–")), "–" if events is None else f"{events:,}", valid, test, escape(over)


def _ndcg(one: Listed, part: str) -> float | None:
    report = _report(one)
    number = report.get("rankers", {}).get(report.get("served"), {}).get(part, {}).get(METRIC)
    return None if number is None else float(number)


def _report(one: Listed) -> dict[str, Any]:
    report = one.document.get("report")
    return report if isinstance(report, dict) else {}


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
