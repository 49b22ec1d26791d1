"""The plots of an evaluation as PNG files: rankers with intervals, hours and scenes, warm and cold users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model_server.evaluation.ranker import METRIC
from model_server.evaluation.report import final
from model_server.training.train import BLEND

WIDTH, DPI = 8.0, 110
BAR, OURS, FLOOR = "#9db4c8", "#1f5a8c", "#8c8c8c"


def draw(told: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Write the plots of a report into `folder`; title -> file."""
    import matplotlib as mpl

    mpl.use("Agg")
    files = {"NDCG@10 by ranker": _rankers(told, folder / "rankers.png")}
    files["Warm and cold users"] = _sides(told, folder / "warm-cold.png")
    if told["chances"]:
        files["Reliability"] = _reliability(told, folder / "reliability.png")
    if told["by hour"]:
        files["NDCG@10 by hour of the day"] = _lines(told, told["by hour"], "local hour", folder / "hours.png")
    for field, table in told["by scene"].items():
        files[f"NDCG@10 by {field}"] = _lines(told, table, field, folder / f"scene-{field}.png")
    return files


def shown(told: Mapping[str, Any]) -> list[str]:
    """The few rankers that are followed through hours and scenes: the best baseline, the blend, LightGBM, ours."""
    rows = told["rankers"]
    return list(
        dict.fromkeys(
            name for name in (told["best baseline"], BLEND, "LightGBM lambdarank", final(told)) if name in rows
        )
    )


def _rankers(told: Mapping[str, Any], path: Path) -> Path:
    from matplotlib import pyplot as plt

    rows = dict(sorted(told["rankers"].items(), key=lambda row: row[1][METRIC]))
    values = [row[METRIC] for row in rows.values()]
    spread = [
        [max(0.0, v - row["interval"][0]) for v, row in zip(values, rows.values(), strict=True)],
        [max(0.0, row["interval"][1] - v) for v, row in zip(values, rows.values(), strict=True)],
    ]
    colours = [OURS if name == final(told) else FLOOR if name == BLEND else BAR for name in rows]
    figure, axes = plt.subplots(figsize=(WIDTH, 0.6 + 0.28 * len(rows)))
    axes.barh(list(rows), values, xerr=spread, color=colours, error_kw={"lw": 0.8, "capsize": 2})
    axes.axvline(told["rankers"][BLEND][METRIC], color=FLOOR, lw=0.8, ls="--")
    axes.set_xlabel("NDCG@10 on test, 95 % bootstrap interval over users")
    return _saved(figure, path)


def _sides(told: Mapping[str, Any], path: Path) -> Path:
    from matplotlib import pyplot as plt

    names = shown(told)
    figure, axes = plt.subplots(figsize=(WIDTH, 3.2))
    for offset, (side, colour) in enumerate((("warm", OURS), ("cold", BAR))):
        heights = [(told["rankers"][name][side] or {}).get(METRIC, 0.0) for name in names]
        axes.bar([i + 0.4 * offset for i in range(len(names))], heights, 0.38, label=side, color=colour)
    axes.set_xticks([i + 0.2 for i in range(len(names))], names)
    axes.set_ylabel("NDCG@10")
    axes.legend(frameon=False)
    return _saved(figure, path)


def _reliability(told: Mapping[str, Any], path: Path) -> Path:
    """Chance against share of what was acted on, on logarithmic axes: most candidates are unlikely."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(WIDTH, 4.0))
    axes.plot([1e-5, 1], [1e-5, 1], color=FLOOR, lw=0.8, ls="--")
    for name, found in told["chances"].items():
        for when, style in (("uncalibrated", ":"), ("calibrated", "-")):
            bins = [b for b in found[when]["reliability"] if b["share"] > 0 and b["chance"] > 0]
            colour = OURS if name == final(told) else BAR
            points = [b["chance"] for b in bins], [b["share"] for b in bins]
            axes.loglog(*points, style, marker="o", ms=3, lw=1.2, color=colour, label=f"{name}, {when}")
    axes.set_xlabel("chance that the candidate is acted on")
    axes.set_ylabel("share acted on, on test")
    axes.legend(frameon=False, fontsize=8)
    return _saved(figure, path)


def _lines(told: Mapping[str, Any], table: Mapping[str, Any], label: str, path: Path) -> Path:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(WIDTH, 3.2))
    values: Sequence[str] = list(table)
    for name in shown(told):
        axes.plot(values, [table[value][name] for value in values], marker="o", ms=3, lw=1.2, label=name)
    axes.set_xlabel(label)
    axes.set_ylabel("NDCG@10")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    return _saved(figure, path)


def _saved(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot as plt

    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    # Without the time and the version of the library the same numbers make the same bytes.
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)
    return path
