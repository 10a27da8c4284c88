"""The one picture: what each candidate gained on support against the worst that it lost elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib.figure import Figure  # noqa: E402  (the backend is chosen first)

LOOKS = {"PROMOTE": ("o", "#1a7f4b"), "REFUSE": ("X", "#c0362c"), "HOLD": ("D", "#b07d10")}
FARTHEST = 12.0
PATH = "#555555"


def draw(points: Sequence[dict[str, Any]], path: Sequence[dict[str, Any]], target: Path) -> Path:
    """A PNG of gain (x, per cent) against worst general loss (y, in margins, downwards is worse); 1.0 is the line.

    `path`: those of the points that were champions, in their order; a line joins them.
    """
    figure = Figure(figsize=(7.2, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    losses = [_within(p["loss"]) for p in points]
    bottom = max([2.0, *losses]) * 1.12
    axes.axhspan(1.0, bottom, color="#c0362c", alpha=0.08, lw=0)
    axes.axhline(1.0, color="#c0362c", lw=1.2, ls="--")
    axes.axvline(0.0, color="#888888", lw=0.8)
    axes.text(
        0.01,
        1.0,
        "largest tolerated loss",
        transform=axes.get_yaxis_transform(),
        ha="left",
        va="bottom",
        color="#c0362c",
        fontsize=9,
    )
    axes.plot([p["gain"] for p in path], [_within(p["loss"]) for p in path], color=PATH, lw=1.0, zorder=2)
    for point, loss in zip(points, losses, strict=True):
        marker, colour = LOOKS[point["verdict"]]
        axes.scatter(
            point["gain"],
            loss,
            marker=marker,
            s=150 if point["now"] else 60,
            color=colour,
            alpha=1.0 if point["now"] else 0.45,
            edgecolors="white",
            linewidths=1.0,
            zorder=3,
        )
        axes.annotate(
            point["label"],
            (point["gain"], loss),
            xytext=(0, 8) if point["past"] else (9, 5),
            textcoords="offset points",
            ha="center" if point["past"] else "left",
            fontsize=9,
            fontweight="bold" if point["now"] else "normal",
            color=colour,
        )
    axes.set(
        xlabel="gained on support (per cent fewer bits per byte than base)",
        ylabel="worst loss elsewhere (in margins)",
        ylim=(bottom, -1.3),
    )
    axes.margins(x=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target)
    return target


def _within(loss: float) -> float:
    """Cut to what the picture shows."""
    return max(-1.0, min(FARTHEST, loss))
