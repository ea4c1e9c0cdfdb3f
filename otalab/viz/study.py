"""Figures of a study: every run a dot, every mean with its interval, so that no bar hides how few runs there were."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from otalab.lab.study import CROWDED, SPLITS, Difference, Run, assigners_of, interval, paired_difference, values
from otalab.viz.style import BACKGROUND, INK, MUTED, gt_colour, style

TITLES = {
    "all": "all scenes",
    "crowded": f"crowded: two gts overlap, IoU ≥ {CROWDED}",
    "apart": "apart: no two gts do",
}


def draw_runs(ax: Axes, runs: Sequence[Run], split: str = "all", level: float = 0.95) -> Axes:
    """A row an assigner: the AP of each run as a dot, their mean as a line with its interval of that level."""
    names = assigners_of(runs)
    for row, name in enumerate(names):
        ap, colour = 100 * values(runs, name, split), gt_colour(row)
        middle = interval(ap, level)
        ax.plot([middle.low, middle.high], [row, row], color=colour, lw=5, alpha=0.3, solid_capstyle="butt")
        ax.plot([middle.mean], [row], "|", color=colour, markersize=15, markeredgewidth=2.4)
        ax.plot(ap, np.full(len(ap), row - 0.25), "o", color=colour, markersize=4, alpha=0.8, clip_on=False)
    return name_rows(ax, names, 0.6, "AP (%)")


def draw_differences(
    ax: Axes, names: Sequence[str], differences: Sequence[Difference], colours: Sequence[str] | None = None
) -> Axes:
    """A row a name: a mean difference of AP with its interval, hollow where the interval holds 0."""
    ax.axvline(0, color=BACKGROUND, lw=1.2)
    for row, found in enumerate(differences):
        colour = colours[row] if colours else INK
        ax.plot([100 * found.low, 100 * found.high], [row, row], color=colour, lw=2)
        face = colour if found.separated else "white"
        ax.plot([100 * found.mean], [row], "o", color=colour, markerfacecolor=face, markersize=7, markeredgewidth=1.8)
        text = f"{round(100 * found.mean, 1) + 0.0:+.1f}"  # no minus before 0.0
        above = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center"}
        ax.annotate(text, (100 * found.mean, row), fontsize=8.5, color=MUTED, **above)
    return name_rows(ax, names, 0.7, "difference (points of AP)")


def name_rows(ax: Axes, names: Sequence[str], above: float, xlabel: str) -> Axes:
    """A name beside each row, the first on top, with some room `above` it."""
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -above), xlabel=xlabel)
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
    return ax


def study_figure(runs: Sequence[Run], title: str) -> Figure:
    """`draw_runs` for all scenes, the crowded ones and the others, side by side."""
    return in_splits(lambda ax, split: draw_runs(ax, runs, split), title, 1.5 + 0.48 * len(assigners_of(runs)))


def difference_figure(runs: Sequence[Run], base: str, title: str, level: float = 0.95) -> Figure:
    """How much better every other assigner is than `base`, pair by pair of equal seeds, in the three sets of scenes."""
    colours = {name: gt_colour(row) for row, name in enumerate(assigners_of(runs)) if name != base}

    def draw(ax: Axes, split: str) -> None:
        base_ap = values(runs, base, split)
        found = [paired_difference(values(runs, name, split), base_ap, level) for name in colours]
        draw_differences(ax, list(colours), found, list(colours.values())).set_xlabel(f"AP minus {base}'s (points)")

    return in_splits(draw, title, 1.6 + 0.48 * len(colours), sharex=True)


def in_splits(draw: Callable[[Axes, str], object], title: str, height: float, sharex: bool = False) -> Figure:
    """A figure that is `height` inches high: `draw(ax, split)` for each set of scenes, side by side."""
    with style():
        figure = Figure(figsize=(10.7, height), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.1)
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
        for ax, split in zip(figure.subplots(1, 3, sharey=True, sharex=sharex), SPLITS, strict=True):
            draw(ax, split)
            ax.set_title(TITLES[split], fontsize=9.5, fontweight="normal")
    return figure
