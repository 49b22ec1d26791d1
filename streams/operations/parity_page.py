"""`kairos parity`: its arguments, its page and its verdict."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from streams.features.declaration import DEFAULT, Declaration
from streams.features.features_file import load
from streams.opened import declared
from streams.operations.comparing import Tally
from streams.operations.parity import Parity, ParityError, Sample, kinds
from streams.service import logs, settings
from streams.service.redis import connect
from streams.service.trouble import TROUBLE
from streams.service.verb import BAD, GOOD, Telling, parser
from streams.settings import Tools

SHOWN = 12


def verb(argv: list[str]) -> int:
    """`kairos parity A B`: 0 when all rows are equal, 1 when some are not."""
    asked = parser("parity", "Compare the rows of two namespaces.", Tools, acts=False)
    asked.add_argument("a", metavar="A", type=_name, help="a namespace")
    asked.add_argument("b", metavar="B", type=_name, help="another one, a run perhaps")
    asked.add_argument(
        "--sample", type=_sample, default=Sample(), metavar="1/N", help="compare one row in N, the same on both sides"
    )
    asked.add_argument(
        "--wait",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="look again at rows that differ for so long: where both sides follow the log, one is ahead by a moment",
    )
    asked.add_argument(
        "--features",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a features.toml that one of them was built with, besides KAIROS_FEATURES and the default",
    )
    arguments = asked.parse_args(argv)
    read = settings.read(Tools, os.environ)
    logs.setup(read.shell.log, "error")
    declarations = [DEFAULT, declared(read), *map(load, arguments.features)]
    telling = Telling(as_json=arguments.json)
    return asyncio.run(_parity(read, arguments, {each.schema: each for each in declarations}, telling))


def _name(text: str) -> str:
    from schemas.keys import Keys

    try:
        return Keys(text).namespace
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _sample(text: str) -> Sample:
    one, _, of = text.partition("/")
    if one != "1" or not of.isdecimal() or int(of) < 1:
        msg = f"{text} is no share of the rows such as 1/64"
        raise argparse.ArgumentTypeError(msg)
    return Sample(int(of))


async def _parity(tools: Tools, asked: Any, declarations: Mapping[int, Declaration], telling: Telling) -> int:
    client = connect(tools.connections)
    parity = Parity(client, asked.a, asked.b, declarations, asked.sample, asked.wait)
    try:
        _, item_partitions = await parity.counts()
        telling.facts(a=asked.a, b=asked.b, sample=f"1/{asked.sample.of}")
        _show_fences(telling, asked.a, asked.b, await parity.fences(), asked.wait)
        good = True
        for kind in kinds(client, item_partitions):
            with telling.progress(kind.name, 1, "rows") as bar:
                tally = await parity.compare(kind, bar)
            good &= tally.good
            telling.facts(**{kind.name: facts(tally)})
            _show(telling, kind.name, tally, asked.a, asked.b)
    except ParityError as error:
        telling.complain(str(error))
        return telling.end(error.exit_code)
    except TROUBLE as error:
        telling.complain(f"Redis does not answer ({error}): set KAIROS_REDIS to where it is.")
        return telling.end(BAD)
    finally:
        await client.aclose()
    telling.facts(equal=good)
    telling.page(f"[green]✓[/] {asked.a} and {asked.b} are equal" if good else "[red]✗[/] they differ")
    return telling.end(GOOD if good else BAD)


def _show_fences(telling: Telling, a: str, b: str, fences: Mapping[str, tuple[int, int]], wait_s: float) -> None:
    """Say where the two stand in the log before anything is compared."""
    telling.facts(fences={topic: {"a_ahead": one, "b_ahead": other} for topic, (one, other) in fences.items()})
    apart = {topic: pair for topic, pair in fences.items() if any(pair)}
    if not apart:
        telling.page(f"{a} and {b} stand at the same offsets.")
        return
    for topic, (one, other) in apart.items():
        words = [f"{a} is {one:,} records ahead"] * (one > 0) + [f"{b} is {other:,} records ahead"] * (other > 0)
        telling.page(f"[yellow]![/] {escape(topic)}: {', '.join(words)}")
    remedy = "" if wait_s else " Let both apply the whole log, or, where both follow it, add --wait 10."
    telling.page(f"  Differences below may be those records' effect.{remedy}")


def facts(tally: Tally) -> dict[str, Any]:
    """A tally for programs."""
    names = ("compared", "equal", "different", "missing", "extra")
    features = {name: {"rows": apart.rows, "smape": apart.smape} for name, apart in _by_rows(tally)}
    only = {"a": tally.only["features"][0], "b": tally.only["features"][1]} if tally.only else {"a": [], "b": []}
    told = {name: getattr(tally, name) for name in names}
    return {**told, "features": features, "only_in": only, "examples": tally.examples}


def _by_rows(tally: Tally) -> list[tuple[str, Any]]:
    return sorted(tally.features.items(), key=lambda pair: -pair[1].rows)


def _show(telling: Telling, name: str, tally: Tally, a: str, b: str) -> None:
    mark = "[green]✓[/]" if tally.good else "[red]✗[/]"
    telling.page(
        f"{mark} [bold]{name}[/]  {tally.compared:,} compared, {tally.equal:,} equal, {tally.different:,} different, "
        f"{tally.missing:,} only in {a}, {tally.extra:,} only in {b}"
    )
    for side, only in zip((a, b), tally.only.get("features", ((), ())), strict=True):
        if only:
            telling.page(f"  not compared, as {side} alone has them so: {', '.join(only)}")
    if tally.features:
        table = Table(box=None, pad_edge=False, padding=(0, 2))
        table.add_column("  feature")
        table.add_column("rows", justify="right")
        table.add_column("SMAPE", justify="right")
        for feature, apart in _by_rows(tally)[:SHOWN]:
            table.add_row(f"  {feature}", f"{apart.rows:,}", "–" if apart.smape is None else f"{apart.smape:.1f} %")
        telling.page(table)
        if len(tally.features) > SHOWN:
            telling.page(f"  and {len(tally.features) - SHOWN} more (--json tells all)")
    for example in tally.examples:
        telling.page(f"  e.g. {escape(example['id'])}: {escape(_example(example, a, b))}")


def _example(example: Mapping[str, Any], a: str, b: str) -> str:
    if "only_in" in example:
        return f"only in {example['only_in']}"
    if "features" not in example:
        return f"{a} {example['a']}, {b} {example['b']}"
    pairs = list(example["features"].items())
    if not pairs:
        return "the stored bytes alone"
    words = [f"{name} {one} in {a}, {other} in {b}" for name, (one, other) in pairs[:3]]
    return "; ".join(words) + (f"; and {len(pairs) - 3} more" if len(pairs) > 3 else "")
