"""The report of `kairos analyze` as Markdown, which is readable as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from streams.service.findings import Finding
from streams.service.verb import BAD, GOOD

MARKS = {"green": "ok", "yellow": "look", "red": "bad"}


class Analysis(NamedTuple):
    """What was found: of which log, the figures, the findings, and the mapping with what is to be known of it."""

    source: str
    facts: Mapping[str, Any]
    findings: Sequence[Finding]
    toml: str = ""
    notes: Sequence[str] = ()

    @property
    def status(self) -> int:
        """1 where something is red."""
        return BAD if any(finding.state == "red" for finding in self.findings) else GOOD


def markdown(found: Analysis) -> str:
    """The report, readable as it is and as Markdown."""
    facts = found.facts
    lines = [f"# {found.source}", "", "| | |", "|---|---|"]
    lines += [
        f"| {MARKS[f.state]} | {_cell(f.what)}{_cell(f' → {f.remedy}') if f.remedy else ''} |" for f in found.findings
    ]
    for title, word in (("Users", "users"), ("Items", "items")):
        if facts[word]["top"]:
            lines += [
                "",
                f"## {title} that come most often",
                "",
                f"| {word[:-1]} | events | share |",
                "|---|---:|---:|",
            ]
            lines += [f"| {_cell(top['id'])} | {_times(top)} | {top['share']:.2%} |" for top in facts[word]["top"]]
    if facts["missing"]:
        lines += ["", "## Without a value", "", "| column | share |", "|---|---:|"]
        lines += [f"| {_cell(name)} | {share:.1%} |" for name, share in facts["missing"].items()]
    if found.toml:
        lines += ["", "## The mapping that was guessed", ""]
        lines += [f"- {note}" for note in found.notes]
        lines += [""] if found.notes else []
        lines += ["```toml", found.toml.strip(), "```"]
    elif found.notes:
        lines += ["", *[f"- {note}" for note in found.notes]]
    return "\n".join([*lines, ""])


def _times(top: Mapping[str, Any]) -> str:
    """How often it came, and up to how often where that is not exact."""
    return f"{top['n']:,}" + (f" to {top['n'] + top['error']:,}" if top["error"] else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
