"""What `kairos dead-letters` prints: counts without personal data, one letter with all of it, a plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from schemas.dead_letters import DeadLetter
from schemas.encoding import rfc3339
from streams.operations.dead_letters_read import Entry, Place, Survey
from streams.operations.dead_letters_redrive import Plan
from streams.service.moments import ago

AGES = ((3_600_000, "under 1 h"), (86_400_000, "under 1 d"), (7 * 86_400_000, "under 7 d"))
OLDER = "7 d and older"
MOST_BYTES = 1024
"""Of a value that is no text, on the page."""


def counts(found: Survey, now_ms: int) -> dict[str, dict[str, int]]:
    """Letters by state, reason, topic, attempt and age, the most frequent first."""
    entries = found.entries
    words = {
        "state": Counter(found.states()),
        "reason": Counter(entry.reason for entry in entries),
        "topic": Counter(entry.origin.topic for entry in entries),
        "attempt": Counter(str(entry.attempt) for entry in entries),
        "age": Counter(_age(now_ms - entry.buried_ms) for entry in entries),
    }
    return {name: dict(counted.most_common()) for name, counted in words.items()}


def _age(age_ms: int) -> str:
    return next((name for most_ms, name in AGES if age_ms < most_ms), OLDER)


def list_page(found: Survey, now_ms: int, newest: int) -> RenderableType:
    """The counts, and the newest letters with their references."""
    lines = [f"{len(found.entries):,} dead letters", ""]
    for name, counted in counts(found, now_ms).items():
        number = "number " * (name == "attempt")
        lines.append(f"{name:<8} " + ", ".join(f"{n:,} {number}{word}" for word, n in counted.items()))
    rows = [("ref", "age", "attempt", "state", "reason", "from")]
    for entry, state in _newest(found, newest):
        origin = entry.origin
        place = f"{origin.topic}:{origin.partition} offset {origin.offset}"
        age = ago(now_ms - entry.buried_ms)
        rows.append((str(entry.at), age, str(entry.attempt), state, entry.reason, place))
    more = len(found.entries) - newest
    rest = [f"and {more:,} older ones (--limit)"] if more > 0 else []
    return escape("\n".join([*lines, "", *aligned(rows), *rest]))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines in columns; no terminal is too narrow for what somebody may search for."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def list_facts(found: Survey, now_ms: int, newest: int) -> dict[str, Any]:
    """The same for programs."""
    rows = [
        {
            "ref": str(entry.at),
            "buried_ms": entry.buried_ms,
            "first_failed_ms": entry.first_failed_ms,
            "reason": entry.reason,
            "topic": entry.origin.topic,
            "partition": entry.origin.partition,
            "offset": entry.origin.offset,
            "attempt": entry.attempt,
            "state": state,
        }
        for entry, state in _newest(found, newest)
    ]
    return {"total": len(found.entries), "counts": counts(found, now_ms), "letters": rows, "strangers": found.strangers}


def _newest(found: Survey, newest: int) -> Sequence[tuple[Entry, str]]:
    paired = zip(found.entries, found.states(), strict=True)
    return sorted(paired, key=lambda one: (-one[0].buried_ms, one[0].at))[:newest]


def letter_facts(at: Place, buried_ms: int, letter: DeadLetter, state: str, lies: str, home: int) -> dict[str, Any]:
    """Everything of one letter; `lies` says whether the original is still in its topic, `home` where it belongs."""
    return {
        "ref": str(at),
        "state": state,
        "reason": letter.reason,
        "sentence": letter.detail,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "original": lies,
        "home_partition": home,
        "attempt": letter.attempt,
        "first_failed": rfc3339(letter.first_failed_ms),
        "buried": rfc3339(buried_ms),
        "exception": letter.exception,
        "stacktrace": letter.stacktrace,
        "headers": [[name, _text(value) or _hex(value)] for name, value in letter.headers],
        "key": _text(letter.key),
        "key_hex": _hex(letter.key) if _text(letter.key) is None else None,
        "value": _text(letter.value),
        "value_hex": _hex(letter.value) if _text(letter.value) is None else None,
    }


def letter_page(facts: Mapping[str, Any], value: bytes | None) -> RenderableType:
    """One letter for people, from its facts and its value."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    home = facts["home_partition"]
    elsewhere = f", its key belongs to partition {home}" if home != facts["partition"] else ""
    rows = [
        ("reason", facts["reason"]),
        ("", facts["sentence"]),
        ("from", f"{facts['topic']}:{facts['partition']} offset {facts['offset']}{elsewhere} ({facts['original']})"),
        ("state", facts["state"]),
        ("attempt", str(facts["attempt"])),
        ("first failed", facts["first_failed"]),
        ("buried", facts["buried"]),
        *([("exception", facts["exception"])] if facts["stacktrace"] else []),
        *[(f"header {name}", "null" if text is None else text) for name, text in facts["headers"]],
        ("key", repr(facts["key"])[1:-1] if facts["key"] is not None else facts["key_hex"] or "null"),
    ]
    for name, text in rows:
        table.add_row(f"[dim]{escape(name)}[/]", escape(text))
    trace = [Text(facts["stacktrace"])] if facts["stacktrace"] else []
    return Group(f"[bold]Dead letter {facts['ref']}[/]", table, *trace, "[dim]value[/]", Text(readable(value)))


def readable(value: bytes | None) -> str:
    """A value for people: JSON indented, other text with its control characters escaped, else bytes in hex."""
    if value is None:
        return "null"
    try:
        return orjson.dumps(orjson.loads(value), option=orjson.OPT_INDENT_2).decode()
    except ValueError:
        pass
    text = _text(value)
    if text is not None:
        return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    more = f" … {len(value) - MOST_BYTES:,} more bytes" if len(value) > MOST_BYTES else ""
    return f"{len(value):,} bytes: {value[:MOST_BYTES].hex(' ')}{more}"


def plan_page(plan: Plan) -> RenderableType:
    """What a redrive would do."""
    rows = [(f"{n:>9,}", topic, reason) for (topic, reason), n in plan.kinds().most_common()]
    head = f"{len(plan.chosen):,} dead letters go back to their topics" if plan.chosen else "No dead letter goes back"
    left_out = [f"Left out: {n:,} {why}" for why, n in plan.left_out.most_common()]
    return escape("\n".join([head, *(aligned(rows) if rows else []), *left_out]))


def plan_facts(plan: Plan) -> dict[str, object]:
    """The same for programs."""
    kinds = [{"topic": topic, "reason": reason, "letters": n} for (topic, reason), n in plan.kinds().most_common()]
    return {"letters": len(plan.chosen), "kinds": kinds, "left_out": dict(plan.left_out)}


def _text(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()
