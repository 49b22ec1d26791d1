"""`kairos inspect USER`: all that is known of a user, as a page or as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Group
from rich.table import Table
from rich.text import Text

from streams.features.calendar import zone_name
from streams.features.declaration import CLASSES, Declaration, SceneField
from streams.features.rows import Layout
from streams.features.view import UserView, user_view
from streams.tables.look import Looked

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SHADES = " ▁▂▃▄▅▆▇█"

Names = Mapping[int, tuple[str, str]]


def item_codes(layout: Layout, blob: bytes) -> list[int]:
    """Codes of the items in a stored row's history."""
    view = user_view(layout, layout.unpack([blob]), 0)
    return [code for code in dict.fromkeys(view.item[0].tolist()) if code]


def facts(layout: Layout, user: str, looked: Looked, names: Names, now_ms: int) -> dict[str, Any]:
    """What is known of a user whose row exists, as plain values: times in ms, counts, words of the declaration."""
    declaration = layout.declaration
    view = user_view(layout, layout.unpack([looked.row]), now_ms)
    zone = zone_name(int(view.zone[0]))
    return {
        "user_id": user,
        "partition": looked.partition,
        "row_bytes": len(looked.row or b""),
        "schema": layout.schema,
        "applied": _applied(looked.meta),
        "last_ms": int(view.last_ms[0]),
        "idle_ms": int(view.idle_ms[0]),
        "known_for_ms": int(view.age_ms[0]),
        "zone": zone,
        "locale": view.locale[0].decode("ascii", "replace"),
        "opted_out_ms": int(view.opted_out_ms[0]) or None,
        "token_dead_ms": int(view.token_dead_ms[0]) or None,
        "session": {
            "start_ms": int(view.session_start_ms[0]),
            "last_ms": int(view.session_last_ms[0]),
            "events": int(view.session_n[0]),
            "open": bool(view.in_session[0]),
        },
        "scene": _scene(declaration, view),
        "windows": _windows(declaration, view),
        "totals": {kind.name: n for kind, n in zip(declaration.kinds, view.totals[0].tolist(), strict=True)},
        "mean_price": float(view.price_mean[0]),
        "dwell_s": int(view.dwell_s[0]),
        "hour_of_week": view.hour_of_week[0].tolist(),
        "history": _history(declaration, view, names),
        "rescore": pending(looked),
        "pushes": looked.pushes,
    }


def _applied(meta: Mapping[bytes, bytes]) -> dict[str, int]:
    return {name[2:].decode(): int(value) for name, value in sorted(meta.items()) if name.startswith(b"o:")}


def _scene(declaration: Declaration, view: UserView) -> dict[str, str]:
    codes = view.scene[0].tolist()
    words = {field.name: word_of(field, code) for field, code in zip(declaration.scene, codes, strict=True)}
    return {name: word for name, word in words.items() if word}


def word_of(field: SceneField, code: int) -> str:
    """The word behind a scene code, `#n` for the n-th hashed bucket, empty for unknown."""
    if code == 0:
        return ""
    return field.values[code - 1] if code <= len(field.values) else f"#{code - len(field.values)}"


def _windows(declaration: Declaration, view: UserView) -> dict[str, dict[str, int]]:
    counts = view.windows[0].tolist()
    return {
        kind.name: {window.name: counts[k][w] for w, window in enumerate(declaration.windows)}
        for k, kind in enumerate(declaration.window_kinds)
    }


def _history(declaration: Declaration, view: UserView, names: Names) -> list[dict[str, Any]]:
    fields = {field.name: field for field in declaration.scene}
    rows = zip(view.ts_s[0], view.kind[0], view.item[0], view.dwell[0], view.page[0], view.device[0], strict=True)
    return [
        {
            "ts_ms": int(ts_s) * 1000,
            "kind": declaration.kinds[kind].name,
            "item": names.get(int(item), (f"code {int(item):016x}", ""))[0],
            "title": names.get(int(item), ("", ""))[1],
            "dwell": f"{2 ** (int(dwell) - 1) - 1}+ s" if dwell else "",
            "page": word_of(fields["page"], int(page)) if "page" in fields else "",
            "device": word_of(fields["device"], int(device)) if "device" in fields else "",
        }
        for (ts_s, kind, item, dwell, page, device), valid in zip(rows, view.valid[0], strict=True)
        if valid
    ]


def pending(looked: Looked) -> dict[str, Any] | None:
    """Whether the user waits to be scored again, or is being; None for neither."""
    if looked.queued is not None:
        score = int(looked.queued)
        return {"state": "queued", "deadline_ms": score // len(CLASSES), "class": CLASSES[score % len(CLASSES)]}
    if looked.leased is not None:
        return {"state": "leased", "expires_ms": int(looked.leased) // 4}
    return None


def page(known: Mapping[str, Any], now_ms: int, newest: int) -> Group:
    """The same for people; `newest` entries of the history. Times are in the user's own zone, UTC where unknown."""
    zone = ZoneInfo(known["zone"]) if known["zone"] else UTC
    return Group(
        _head(known, now_ms, zone),
        _window_table(known),
        Text.assemble(("\nhour of the week\n", "bold"), _heat(known["hour_of_week"])),
        _history_table(known["history"][:newest], len(known["history"]), zone),
    )


def _head(known: Mapping[str, Any], now_ms: int, zone: Any) -> Table:
    session, rescore = known["session"], known["rescore"]
    rows = {
        "user": f"{known['user_id']}  (partition {known['partition']}, row {known['row_bytes']} bytes)",
        "last event": f"{_time(known['last_ms'], zone)}  ({_span(known['idle_ms'])} ago)",
        "known for": _span(known["known_for_ms"]),
        "session": _session_words(session, zone) if session["events"] else "none",
        "scene": "  ".join(f"{name} {word}" for name, word in known["scene"].items()) or "unknown",
        "place": f"{known['zone'] or 'zone unknown'}  {known['locale'] or 'locale unknown'}",
        "rescore": _rescore_words(rescore, now_ms) if rescore else "nothing pending",
        "pushes": f"{len(known['pushes'])} in the log" if known["pushes"] else "none",
    }
    for name, word in (("opted_out_ms", "opted out"), ("token_dead_ms", "push token dead")):
        if known[name]:
            rows[word] = f"since {_time(known[name], zone)}"
    table = Table.grid(padding=(0, 2))
    for name, words in rows.items():
        table.add_row(Text(name, style="bold"), Text(words))
    return table


def _session_words(session: Mapping[str, Any], zone: Any) -> str:
    state = "open" if session["open"] else "over"
    return f"{session['events']} events since {_time(session['start_ms'], zone)}, {state}"


def _rescore_words(rescore: Mapping[str, Any], now_ms: int) -> str:
    if rescore["state"] == "leased":
        return f"leased by a model worker for {_span(rescore['expires_ms'] - now_ms)}"
    late_ms = now_ms - rescore["deadline_ms"]
    return f"queued ({rescore['class']}), " + (f"{_span(late_ms)} late" if late_ms > 0 else f"due in {_span(-late_ms)}")


def _window_table(known: Mapping[str, Any]) -> Table:
    windows: Mapping[str, Mapping[str, int]] = known["windows"]
    table = Table(title="events in the last", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("")
    for name in next(iter(windows.values()), {}):
        table.add_column(name, justify="right")
    table.add_column("ever", justify="right")
    width = len(table.columns) - 2
    for kind, total in known["totals"].items():
        if kind in windows or total:
            counts = [str(n or "·") for n in windows[kind].values()] if kind in windows else [""] * width
            table.add_row(kind, *counts, str(total or "·"))
    return table


def _heat(hours: Sequence[int]) -> str:
    top = max(hours, default=0)
    if not top:
        return "  nothing yet\n"
    lines = []
    for day, name in enumerate(DAYS):
        counts = hours[24 * day : 24 * day + 24]
        lines.append(f"  {name} " + "".join(SHADES[-(-8 * n // top)] for n in counts) + f"  {sum(counts)}")
    return "\n".join(lines) + "\n"


def _history_table(entries: Sequence[Mapping[str, Any]], total: int, zone: Any) -> Table:
    title = f"newest {len(entries)} of {total} entries"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in ("time", "kind", "item", "title", "dwell", "page", "device"):
        table.add_column(name)
    for entry in entries:
        words = (entry["kind"], entry["item"], entry["title"], entry["dwell"], entry["page"], entry["device"])
        table.add_row(_time(entry["ts_ms"], zone), *map(Text, words))
    return table


def _time(ts_ms: int, zone: Any) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, zone).strftime("%Y-%m-%d %H:%M:%S %Z") if ts_ms > 0 else "never"


def _span(ms: int) -> str:
    """A length of time in its two largest units."""
    left = max(0, ms) // 1000
    words: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if left >= size and len(words) < 2:
            words.append(f"{left // size} {unit}")
            left %= size
    return " ".join(words) or "0 s"
