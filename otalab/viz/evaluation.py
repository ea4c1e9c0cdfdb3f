"""Figures that take average precision apart: precision over recall, AP by class and by crowding, kinds of mistakes."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from otalab.errors import InputError
from otalab.lab.gt_bins import GtBin
from otalab.lab.mistakes import DetectionCounts, GtCounts
from otalab.viz.style import BACKGROUND, HATCH, MUTED, gt_colour, text_colour

# kind: (name, colour); found is green, missed gts and detections of nothing are grey
KINDS = {
    "found": ("found", gt_colour(2)),
    "ignored": ("in a crowd", HATCH),
    "duplicate": ("duplicate", gt_colour(6)),
    "confused": ("confused", gt_colour(3)),
    "misplaced": ("poorly placed", gt_colour(4)),
    "missed": ("missed", BACKGROUND),
    "background": ("nothing there", BACKGROUND),
}
NARROW = 5.0  # percent; a narrower part of a bar has no label
TICKS = np.array([1, 2, 5, 10, 20, 50, 100, 200, 500])  # of the logarithmic axis of training images


def draw_precision_recall(
    ax: Axes,
    recall: Float[np.ndarray, " r"],
    curves: Mapping[str, Float[np.ndarray, " r"]],
    title: str,
) -> Axes:
    """Draw precision curves over shared recalls. Both are in 0..1 and drawn in percent.

    The legend gives the mean precision of each curve, which is its AP.
    """
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
    """Draw the AP of each class over the number of its training images, with a bar for its interval.

    classes: "name", "images", "AP" and "interval" (two APs) of each class; APs are in 0..1
    apart:   name of the class that is drawn in another colour
    named:   classes whose names are written beside them
    """
    for row in classes:
        x, special = row["images"], row["name"] == apart
        colour = gt_colour(1 if special else 0)
        ax.plot([x, x], [100 * end for end in row["interval"]], color=colour, lw=1.6, alpha=1 if special else 0.3)
        ax.plot(x, 100 * row["AP"], "o", ms=5, color=colour, mew=0, clip_on=False, zorder=3)
        if row["name"] in named:
            ax.annotate(row["name"], (x, 100 * row["AP"]), xytext=(6, 2), textcoords="offset points", fontsize=9)
    ax.set(xscale="log", ylim=(0, None), xlabel="training images that show the class", ylabel="AP of the class (%)")
    low, high = ax.get_xlim()
    shown = TICKS[(low <= TICKS) & (high >= TICKS)]
    ax.set_xticks(shown, shown)
    ax.minorticks_off()
    ax.grid(axis="y")
    ax.set_title(title)
    return ax


def draw_crowding(ax: Axes, bins: Sequence[GtBin]) -> Axes:
    """Draw recall at IoU 0.5 and AP, in percent, for each bin of gts. Empty bins are left out."""
    bins = [each for each in bins if each.gts]
    places = np.arange(len(bins))
    for offset, name, label, colour in ((-0.2, "recall", "recall at IoU 0.5", 0), (0.2, "AP", "AP", 1)):
        heights = [100 * getattr(each, name) for each in bins]
        bars = ax.bar(places + offset, heights, 0.38, color=gt_colour(colour), label=label)
        ax.bar_label(bars, fmt="%.0f", fontsize=9, color=MUTED, padding=2)
    ax.set_xticks(places, [f"{each.name}\n{each.gts:,} gts" for each in bins])
    ax.tick_params(axis="x", length=0)
    ax.set(ylim=(0, 120), xlabel="largest IoU with another gt", ylabel="of the gts of each bin (%)")
    ax.set_yticks(range(0, 101, 20))
    ax.grid(axis="y")
    ax.legend(loc="upper right", ncols=2, handlelength=1)
    least = min(bins, key=lambda each: each.recall, default=None)
    ax.set_title(f"Least found: {100 * least.recall:.0f} % of the gts at IoU {least.name}" if least else "No gt")
    return ax


def draw_mistakes(ax: Axes, counts: Mapping[str, GtCounts] | Mapping[str, DetectionCounts], title: str) -> Axes:
    """Draw a bar for each named count, from top to bottom, that shows the share of each kind in percent.

    Parts of at least NARROW percent are labelled. Raises InputError if `counts` is empty or mixes `GtCounts` with
    `DetectionCounts`.
    """
    types = [type(count) for count in counts.values()]
    if len(set(types)) != 1:
        raise InputError(f"bars need counts of one kind, not {[kind.__name__ for kind in types]}")
    noun = "gts" if GtCounts in types else "detections"
    totals = np.array([count.total for count in counts.values()])
    parts = [
        (name, colour, 100 * np.array([getattr(count, kind, 0) for count in counts.values()]) / totals.clip(1))
        for kind, (name, colour) in KINDS.items()
    ]
    stack_bars(ax, [part for part in parts if part[2].any()], title, NARROW)
    ax.set_yticks(range(len(counts)), [f"{name}\n{total:,} {noun}" for name, total in zip(counts, totals, strict=True)])
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(len(counts) - 0.5, -0.5), xlabel=f"share of {noun} (%)")
    return ax


def stack_bars(ax: Axes, parts: Sequence[tuple[str, str, Float[np.ndarray, " b"]]], title: str, narrow: float) -> None:
    """Draw bars of parts, each (name, colour, widths in percent). Parts of at least `narrow` percent are labelled."""
    left = 0.0
    for name, colour, widths in parts:
        bars = ax.barh(range(len(widths)), widths, 0.62, left, color=colour, edgecolor="white", lw=1, label=name)
        labels = [f"{width:.0f}" if width >= narrow else "" for width in widths]
        ax.bar_label(bars, labels, label_type="center", fontsize=9, color=text_colour(colour))
        left = left + widths
    ax.set_xlim(0, 100)
    ax.spines["left"].set_visible(False)
    if parts:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(parts), handlelength=1, columnspacing=1.2)
    ax.set_title(title, pad=28)
