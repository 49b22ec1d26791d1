"""The model card: what a bundle is, how good it is and where, what it leans on; a Markdown page with one picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

from model_server.training.report import METRIC, sentences

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE, PICTURE = "card.md", "card.png"
OURS, OTHER, FLOOR = "#1f5a8c", "#9db4c8", "#8c8c8c"
SIZE, DPI = (10.0, 11.5), 100
LIMITS = (
    "It was judged on the newest part of its own log, in the order of time: figures of other logs or days do not "
    "compare. It ranks what its user may want; whether somebody is pushed at all is for the policy to say. Where a "
    "value of the scene is missing above, nothing is known of how it does there."
)


def files(version: str, told: Mapping[str, Any]) -> dict[str, bytes]:
    """The card of a bundle from its report, as files to lie beside it; without matplotlib the page alone."""
    try:
        picture = {PICTURE: draw(told)}
    except ImportError:
        picture = {}
    return {PAGE: page(version, told, pictured=bool(picture)).encode(), **picture}


def page(version: str, told: Mapping[str, Any], *, pictured: bool) -> str:
    """The card as Markdown."""
    muted = told["breakdown"]["muted"]
    header = ("ranker", *(f"{part} {metric}" for part in told["requests"] for metric in ("NDCG@10", "HR@10", "MRR")))
    picture = ["![curves, reliability, hours, what it leans on, scenes](card.png)"] if pictured else []
    leans = (
        f"NDCG@10 that {told['final']} loses when it sees a group of counters at their means, everything else as it "
        f"is; newest {muted['requests']:,} requests of {told['measured on']}. Not what a ranker trained without the "
        "group would lose."
    )
    parts = [
        f"# Model card: {version}",
        _what(told),
        "## How good it is",
        _table(header, _rankers(told)),
        "\n".join(f"- {sentence}" for sentence in sentences(told)),
        *picture,
        "## What it leans on",
        leans,
        _table(("group", "loss", "95 %"), _leans(muted["groups"])),
        "## By hour and scene",
        "\n\n".join(_by_field(told)) or "Too few requests with a known scene to tell them apart.",
        "## What it must not be used for",
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _what(told: Mapping[str, Any]) -> str:
    until, learned = (
        datetime.fromtimestamp(told[name] / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
        for name in ("until_ms", "learned_until_ms")
    )
    declared = told["declared"]
    requests = ", ".join(f"{count:,} {part}" for part, count in told["requests"].items())
    return "\n".join(
        (
            f"- Serves with: **{told['served']}**, {told['parameters']:,} parameters.",
            f"- Log: {told['events']:,} events of {told['users']:,} users with {told['items']:,} items, until {until}.",
            f"- Learned from {told['lists']:,} lists until {learned}; judged at {requests} requests after that.",
            f"- Kinds: {', '.join(declared['kinds'])}. Windows: {', '.join(declared['windows'])}.",
            f"- Scene: {', '.join(declared['scene'])}.",
        )
    )


def _rankers(told: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, row in told["rankers"].items():
        mark = "**" if name == told["served"] else ""
        cells = (f"{row[part][metric]:.4f}" for part in told["requests"] for metric in (METRIC, "hr@10", "mrr"))
        yield [f"{mark}{name}{mark}", *cells]


def _leans(groups: Mapping[str, Mapping[str, float]]) -> Iterator[list[str]]:
    for group, row in sorted(groups.items(), key=lambda pair: -pair[1]["loss"]):
        yield [group, f"{row['loss']:+.4f}", f"{row['low']:+.4f} … {row['high']:+.4f}"]


def _by_field(told: Mapping[str, Any]) -> Iterator[str]:
    breakdown = told["breakdown"]
    for field, table in {"hour": breakdown["by hour"], **breakdown["by scene"]}.items():
        if table:
            names = [name for name in next(iter(table.values())) if name != "requests"]
            rows = ([value, f"{row['requests']:,}", *(f"{row[n]:.4f}" for n in names)] for value, row in table.items())
            yield _table((field, "requests", *names), rows)


def _table(header: Sequence[str], rows: Iterator[list[str]]) -> str:
    lines = [list(header), ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw(told: Mapping[str, Any]) -> bytes:
    """The picture as PNG; the same numbers make the same bytes. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DPI)
    grid = figure.add_gridspec(3, 2)
    _curves(figure.add_subplot(grid[0, 0]), told)
    _reliability(figure.add_subplot(grid[0, 1]), told)
    _hours(figure.add_subplot(grid[1, 0]), told)
    _leaning(figure.add_subplot(grid[1, 1]), told)
    _scenes(figure.add_subplot(grid[2, :]), told)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    drawn = BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    return drawn.getvalue()


def _curves(axes: Axes, told: Mapping[str, Any]) -> None:
    """NDCG@10 on valid, pass after pass, stage after stage; the pass that was kept is marked."""
    done = 0
    for verdict in told["verdicts"]:
        values = [verdict["before"], *(judged["valid"] for judged in verdict["epochs"])]
        axes.plot(range(done, done + len(values)), values, lw=1.2, marker="o", ms=3, label=verdict["stage"])
        axes.plot([done + verdict["kept"]], [verdict["after"]], "o", ms=8, mfc="none", color=OURS)
        done += len(values) - 1
    axes.axhline(told["bar"]["value"], color=FLOOR, lw=0.8, ls="--", label=f"bar: {told['bar']['name']}")
    _labelled(axes, "Training curves", "pass", "NDCG@10 on valid", legend=True)


def _reliability(axes: Axes, told: Mapping[str, Any]) -> None:
    """Chance against share of what was acted on, on logarithmic axes: most candidates are unlikely."""
    axes.plot([1e-5, 1], [1e-5, 1], color=FLOOR, lw=0.8, ls="--")
    heads = told["heads"] or {}
    for when, style in (("uncalibrated", ":"), ("calibrated", "-")):
        bins = [b for b in heads.get(when, {}).get("reliability", ()) if b["share"] > 0 and b["chance"] > 0]
        points = [b["chance"] for b in bins], [b["share"] for b in bins]
        axes.loglog(*points, style, marker="o", ms=3, lw=1.2, color=OURS, label=when)
    _labelled(axes, "Reliability", "chance that a candidate is acted on", "share acted on", legend=True)


def _hours(axes: Axes, told: Mapping[str, Any]) -> None:
    table = told["breakdown"]["by hour"]
    _lines(axes, told, table)
    _labelled(axes, "By hour of the day", "local hour", "NDCG@10", legend=bool(table))


def _leaning(axes: Axes, told: Mapping[str, Any]) -> None:
    groups = dict(sorted(told["breakdown"]["muted"]["groups"].items(), key=lambda pair: pair[1]["loss"]))
    losses = [row["loss"] for row in groups.values()]
    spread = [[r["loss"] - r["low"] for r in groups.values()], [r["high"] - r["loss"] for r in groups.values()]]
    axes.barh(list(groups), losses, xerr=spread if groups else None, color=OTHER, error_kw={"lw": 0.8, "capsize": 2})
    axes.axvline(0, color=FLOOR, lw=0.8)
    _labelled(axes, "What it leans on", "NDCG@10 lost with the group muted", "")


def _scenes(axes: Axes, told: Mapping[str, Any]) -> None:
    scenes = told["breakdown"]["by scene"]
    table = {f"{field}\n{value}": row for field, values in scenes.items() for value, row in values.items()}
    _lines(axes, told, table, lines=False)
    axes.tick_params(axis="x", labelsize=7)
    _labelled(axes, "By scene", "", "NDCG@10", legend=bool(table))


def _lines(
    axes: Axes, told: Mapping[str, Any], table: Mapping[str, Mapping[str, float]], *, lines: bool = True
) -> None:
    names = [name for name in next(iter(table.values()), ()) if name != "requests"]
    for name in names:
        colour = OURS if name == told["final"] else FLOOR if name == told["bar"]["name"] else OTHER
        values, width = [row[name] for row in table.values()], 1.2 if lines else 0.0
        axes.plot(list(table), values, color=colour, label=name, marker="o", ms=4, lw=width)
    axes.set_ylim(bottom=0)


def _labelled(axes: Axes, title: str, across: str, up: str, *, legend: bool = False) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    if legend:
        axes.legend(frameon=False, fontsize=8)
