"""What became of gts, or of detections, as stacked bars."""

from collections.abc import Mapping
from dataclasses import asdict

from matplotlib.axes import Axes

from otalab.errors import InputError
from otalab.lab.mistakes import DetectionCounts, GtCounts
from otalab.viz.style import BACKGROUND, HATCH, gt_colour, text_colour

# kind: name and colour; what went well is green, what is not there is grey
KINDS = {
    "found": ("found", gt_colour(2)),
    "ignored": ("in a crowd", HATCH),
    "duplicate": ("duplicate", gt_colour(6)),
    "confused": ("confused", gt_colour(3)),
    "misplaced": ("poorly placed", gt_colour(4)),
    "missed": ("missed", BACKGROUND),
    "background": ("nothing there", BACKGROUND),
}
NARROW = 5.0  # percent: a narrower part is not labelled


def draw_mistakes(ax: Axes, counts: Mapping[str, GtCounts] | Mapping[str, DetectionCounts], title: str) -> Axes:
    """A bar for each named count, from top to bottom, of shares in percent; wide parts are labelled.

    Raises InputError for a mapping without a count, or of counts of both kinds.
    """
    if len({type(count) for count in counts.values()}) != 1:
        raise InputError(f"bars need counts of one kind, not {[type(count).__name__ for count in counts.values()]}")
    noun = "gts" if isinstance(next(iter(counts.values())), GtCounts) else "detections"
    shown = [kind for kind in KINDS if any(asdict(count).get(kind) for count in counts.values())]
    left = [0.0] * len(counts)
    for kind in shown:
        name, colour = KINDS[kind]
        widths = [100 * asdict(count)[kind] / max(1, count.total) for count in counts.values()]
        ax.barh(range(len(counts)), widths, left=left, height=0.62, color=colour, label=name, edgecolor="white", lw=1)
        for row, (start, width) in enumerate(zip(left, widths, strict=True)):
            if width >= NARROW:
                at = (start + width / 2, row)
                ax.text(*at, f"{width:.0f}", ha="center", va="center", fontsize=9, color=text_colour(colour))
        left = [start + width for start, width in zip(left, widths, strict=True)]
    names = [f"{name}\n{count.total:,} {noun}" for name, count in counts.items()]
    ax.set_yticks(range(len(counts)), names)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set(xlim=(0, 100), ylim=(len(counts) - 0.5, -0.5), xlabel=f"share of {noun} (%)")
    if shown:
        ax.legend(ncols=len(shown), loc="lower left", bbox_to_anchor=(0, 1), handlelength=1, columnspacing=1.2)
    ax.set_title(title, pad=28)
    return ax
