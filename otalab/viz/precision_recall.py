"""Precision against recall: what a detector's ranking is worth, and the area that average precision is."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from otalab.viz.style import PALETTE


def draw_precision_recall(
    ax: Axes,
    recall: Float[np.ndarray, " r"],
    curves: Mapping[str, Float[np.ndarray, " r"]],
    title: str,
) -> Axes:
    """Curves over the recalls they share, both 0..1 and drawn in percent; the legend gives each one's mean: its AP."""
    for index, (name, precision) in enumerate(curves.items()):
        colour = PALETTE[index % len(PALETTE)]
        ax.fill_between(100 * recall, 100 * precision, color=colour, alpha=0.07, lw=0)
        label = f"{name}: {100 * np.mean(precision):.1f} %"
        ax.plot(100 * recall, 100 * precision, color=colour, label=label, clip_on=False, zorder=3)
    ax.set(xlim=(0, 100), ylim=(0, 100), xlabel="recall (% of gts found)", ylabel="precision (% of detections right)")
    ax.grid()
    ax.legend(title="mean precision", title_fontproperties={"size": 9}, alignment="left", loc="upper right")
    ax.set_title(title)
    return ax
