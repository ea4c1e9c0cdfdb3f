"""Figures of a run's log: losses over steps, and average precision at its evaluations."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from otalab.viz.style import BACKGROUND, INK, MUTED, gt_colour, page_figure, plural, style

LOSSES = {"loss": INK, "classification": "#0072B2", "box": "#D55E00", "quality": "#009E73"}
METRICS = {"AP": INK, "AP50": "#0072B2", "AP75": "#D55E00"}


def smooth(values: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """Smooth values by a centred moving average with Hann weights, so that the curve does not lag.

    The window is a 25th of the steps, at least 5. At both ends it is cut off, and its weights are normalised again.
    """
    window = min(max(5, len(values) // 25), len(values))
    bell = np.hanning(window + 1 + window % 2)[1:-1]  # an odd number of weights, so that one is in the middle
    return np.convolve(values, bell, "same") / np.convolve(np.ones(len(values)), bell, "same")


def draw_losses(ax: Axes, log_lines: Sequence[dict]) -> Axes:
    """Draw smoothed training losses over steps, and the total loss of each step, pale."""
    lines = [line for line in log_lines if "loss" in line]
    ax.set(xlabel="step", ylabel="loss")
    ax.grid(axis="y")
    if not lines:
        return nothing(ax, "No training step in the log")
    step, raw = column(lines, "step"), column(lines, "loss")
    ax.plot(step, raw, color=BACKGROUND, lw=0.6)
    ends = []
    for name, colour in LOSSES.items():
        if any(name in line for line in lines):
            means = smooth(column(lines, name))
            ax.plot(step, means, color=colour, lw=2.2 if name == "loss" else 1.6)
            ends.append((means[-1], name if name != "loss" else "total", colour))
    ax.set(xlim=(0, step[-1]), ylim=(0, 1.05 * float(np.nanmax(raw))))
    name_ends(ax, ends)
    ax.set_title(f"Loss went from {raw[0]:.2f} to {ends[0][0]:.2f} in {plural(int(step[-1]), 'step')}")
    return ax


def draw_ap(ax: Axes, log_lines: Sequence[dict]) -> Axes:
    """Draw COCO's AP, AP50 and AP75, in percent, at each evaluation."""
    lines = [line for line in log_lines if np.isfinite(line.get("metrics", {}).get("AP", np.nan))]
    ax.set(xlabel="step", ylabel="average precision (%)")
    ax.grid(axis="y")
    if not lines:
        return nothing(ax, "Not evaluated yet")
    step, metrics = column(lines, "step"), [line["metrics"] for line in lines]
    ends = []
    for name, colour in METRICS.items():
        values = 100 * column(metrics, name)
        wide = 2.2 if name == "AP" else 1.6
        ax.plot(step, values, color=colour, marker="o", markersize=4.5, lw=wide, clip_on=False, zorder=3)
        ends.append((values[-1], f"{name} {values[-1]:.1f}", colour))
    top = np.nanmax([end[0] for end in ends])
    ax.set(xlim=(0, column(log_lines, "step").max()), ylim=(0, min(100, max(1.3 * top, 5))))
    name_ends(ax, ends)
    ap, best = ends[0][0], 100 * column(metrics, "AP").max()
    finding = f"AP reaches {ap:.1f} %" if best - ap < 0.05 else f"AP ends at {ap:.1f} %, after a best of {best:.1f} %"
    ax.set_title(finding)
    return ax


def draw_training(axes: Iterable[Axes], log_lines: Sequence[dict]) -> Iterable[Axes]:
    """Draw losses on the first of two axes and average precision on the second. `read_log` gives the log lines."""
    left, right = axes
    draw_losses(left, log_lines)
    draw_ap(right, log_lines)
    return axes


@style()
def training_figure(log_lines: Sequence[dict]) -> Figure:
    """`draw_training` on a figure of its own."""
    figure = page_figure(3.6, wspace=0.06)
    draw_training(figure.subplots(1, 2), log_lines)
    return figure


@style()
def labels_figure(
    steps: Sequence[int],
    positives: Sequence[float],
    iou: Sequence[float],
    changed: Mapping[str, Sequence[float]],
    title: str,
) -> Figure:
    """Draw positives per gt, their mean IoU and the share of labels that change, over the steps of a training run.

    positives: positives per gt at each step
    iou:       mean IoU of the positives at each step
    changed:   for each rule the shares of labels, in 0..1, that differ from those of the step before: one value fewer
    title:     title of the third panel, which shows the changes
    """
    figure = Figure(figsize=(10.4, 3.5), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08)
    left, middle, right = figure.subplots(1, 3)
    left.plot(steps, positives, color=gt_colour(0))
    left.set(ylim=(0, None), xlabel="step", ylabel="positives a gt")
    left.set_title(f"From {positives[0]:.1f} to {positives[-1]:.1f} positives a gt ...")
    middle.plot(steps, iou, color=gt_colour(0))
    middle.set(ylim=(0, 1), xlabel="step", ylabel="mean IoU of positives")
    middle.set_title(f"... as IoU goes from {iou[0]:.2f} to {iou[-1]:.2f}")
    for number, (rule, shares) in enumerate(changed.items()):
        line = ":" if number % 2 else "-"  # curves that overlap stay visible
        right.plot(steps[1:], 100 * np.array(shares), color=gt_colour(number), ls=line, label=rule, clip_on=False)
    right.set(ylim=(0, None), xlabel="step", ylabel="labels changed since the last look (%)")
    right.set_title(title)
    right.legend()
    return figure


def column(lines: Sequence[dict], name: str) -> Float[np.ndarray, " s"]:
    """The value of key `name` in each line, NaN where it is missing or None."""
    return np.array([line.get(name, np.nan) for line in lines], dtype=float)


def name_ends(ax: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write names at the right ends of curves, pushed apart where they would overlap.

    ends: (value, name, colour) of each curve; values that are not finite are skipped
    """
    low, high = ax.get_ylim()
    lowest = -np.inf
    beside = {"xycoords": "axes fraction", "xytext": (6, 0), "textcoords": "offset points", "annotation_clip": False}
    for value, name, colour in sorted(end for end in ends if np.isfinite(end[0])):
        y = max((value - low) / (high - low), lowest)
        ax.annotate(name, (1, y), color=colour, va="center", fontsize=9, fontweight="bold", **beside)
        lowest = y + 0.075


def nothing(ax: Axes, title: str) -> Axes:
    """Leave the axes empty, with a title that says why."""
    ax.set(xticks=[], yticks=[], title=title)
    ax.text(0.5, 0.5, "nothing to show", transform=ax.transAxes, ha="center", va="center", color=MUTED)
    return ax
