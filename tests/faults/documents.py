"""Writes the table of faults and endings of docs/faults.md from the registry, or checks that it is current."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.faults.fault import EVERYWHERE, ONE_BROKER, ONE_VALKEY, Ending, Fault, Layout
from tests.faults.registry import FAULTS

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- faults -->", "<!-- /faults -->"
WHERE = {EVERYWHERE: "all", ONE_BROKER: "one broker", ONE_VALKEY: "one Valkey"}
SHORT = {
    Layout.SINGLE: "one of each",
    Layout.BROKERS: "three brokers",
    Layout.SENTINEL: "Sentinel",
    Layout.CLUSTER: "Cluster",
}


def table() -> str:
    """One row a fault."""
    rows = ["| fault | what happens | stage | ending |", "|---|---|---|---|"]
    rows += [f"| `{f.name}` | {f.about} | {_where(f)} | {_ending(f)} |" for f in FAULTS.values()]
    return "\n".join(rows)


def _where(fault: Fault) -> str:
    if fault.layouts in WHERE:
        return WHERE[fault.layouts]
    return ", ".join(SHORT[layout] for layout in Layout if layout in fault.layouts)


def _ending(fault: Fault) -> str:
    codes = ", ".join(str(code) for code in sorted(fault.exits))
    if not codes:
        return str(fault.ending.value)
    if fault.ending is Ending.HEALS:
        return f"{fault.ending.value}; an exit with {codes} is healed by the restart"
    return f"{fault.ending.value} ({codes})"


def filled(page: str) -> str:
    """The page with the table of now; raises ValueError where the page has no place for it."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        message = f"docs/faults.md has no {BEGIN} ... {END}: put the two lines back."
        raise ValueError(message)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main(argv: list[str]) -> int:
    """Exit status 1 when the page differs from the registry."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.documents", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write the table")
    action.add_argument("--check", action="store_true", help="fail when it is not current")
    page = PAGE.read_text("utf-8")
    current = filled(page)
    if parser.parse_args(argv).write:
        PAGE.write_text(current, "utf-8")
    elif current != page:
        sys.stderr.write("docs/faults.md is not current. Run `python -m tests.faults.documents --write`.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
