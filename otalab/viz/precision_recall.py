"""Average precision: the area under precision over recall, and how each class comes by its own."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from otalab.viz.style import gt_colour


def draw_precision_recall(
    ax: Axes,
    recall: Float[np.ndarray, " r"],
    curves: Mapping[str, Float[np.ndarray, " r"]],
    title: str,
) -> Axes:
    """Curves over the recalls they share, both 0..1 and drawn in percent; the legend gives each one's mean: its AP."""
    for index, (name, precision) in enumerate(curves.items()):
        colour = gt_colour(index)
        ax.fill_between(100 * recall, 100 * precision, color=colour, alpha=0.07, lw=0)
        label = f"{name}: {100 * np.mean(precision):.1f} %"
        ax.plot(100 * recall, 100 * precision, color=colour, label=label, clip_on=False, zorder=3)
    ax.set(xlim=(0, 100), ylim=(0, 100), xlabel="recall (% of gts found)", ylabel="precision (% of detections right)")
    ax.grid()
    ax.legend(title="mean precision", title_fontproperties={"size": 9}, alignment="left", loc="upper right")
    ax.set_title(title)
    return ax


def draw_class_ap(
    ax: Axes, classes: Sequence[Mapping], title: str, apart: str | None = None, named: Collection[str] = ()
) -> Axes:
    """The AP of each class over the number of its training images, with a bar for its interval.

    classes: "name", "images", "AP" and "interval" (two APs) of each. apart: the class drawn in another colour; the
    classes of `named` have their names beside them.
    """
    for row in classes:
        x, special = row["images"], row["name"] == apart
        colour = gt_colour(1 if special else 0)
        ax.plot([x, x], [100 * end for end in row["interval"]], color=colour, lw=1.6, alpha=1 if special else 0.3)
        ax.plot(x, 100 * row["AP"], "o", ms=5, color=colour, mew=0, clip_on=False, zorder=3)
        if row["name"] in named:
            ax.annotate(row["name"], (x, 100 * row["AP"]), xytext=(6, 2), textcoords="offset points", fontsize=9)
    ax.set(xscale="log", ylim=(0, None), xlabel="training images that show the class", ylabel="AP of the class (%)")
    ticks = [1, 2, 5, 10, 20, 50, 100, 200, 500]
    low, high = ax.get_xlim()
    ax.set_xticks([tick for tick in ticks if low <= tick <= high], [str(tick) for tick in ticks if low <= tick <= high])
    ax.minorticks_off()
    ax.grid(axis="y")
    ax.set_title(title)
    return ax
