"""Figures of a run's training steps: positives, gts without a positive, and time. `read_log` gives the log lines."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from otalab.lab.run_record import PARTS, part_seconds
from otalab.viz.evaluation import stack_bars
from otalab.viz.style import BACKGROUND, gt_colour
from otalab.viz.training import column, nothing, smooth

TIME_COLOURS = dict(zip(PARTS, (BACKGROUND, gt_colour(0), gt_colour(1), gt_colour(5)), strict=True))
NARROW = 4.0  # percent; a narrower part has its number only in the legend


def draw_positives(ax: Axes, log_lines: Sequence[dict]) -> Axes:
    """Draw positives per gt at each step, and their smoothed course."""
    step, values = per_gt(log_lines, "positives")
    ax.set(xlabel="step", ylabel="positives per gt")
    if not len(step):
        return nothing(ax, "No step with a gt")
    means = draw_course(ax, step, values)
    ax.set_title(f"From {means[0]:.1f} to {means[-1]:.1f} positives per gt")
    return ax


def draw_empty(ax: Axes, log_lines: Sequence[dict]) -> Axes:
    """Draw the share of gts without a positive at each step, in percent, and its smoothed course."""
    step, values = per_gt(log_lines, "empty_gts")
    ax.set(xlabel="step", ylabel="gts without a positive (%)")
    if not len(step):
        return nothing(ax, "No step with a gt")
    draw_course(ax, step, 100 * values)
    share = f"{100 * values.mean():.1f} % of the gts of a step are left empty"
    ax.set_title(share if values.any() else "No gt is left empty")
    return ax


def per_gt(log_lines: Sequence[dict], name: str) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """The steps that have gts, and for each the count `name` divided by the number of gts."""
    lines = [line for line in log_lines if line.get("gts") and name in line]
    return column(lines, "step"), column(lines, name) / column(lines, "gts")


def draw_course(ax: Axes, step: Float[np.ndarray, " s"], values: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """Draw values over steps, pale, and their smoothed course, which is returned."""
    means = smooth(values)
    ax.plot(step, values, color=BACKGROUND, lw=0.6)
    ax.plot(step, means, color=gt_colour(0), lw=2.2)
    ax.set(xlim=(0, step[-1]), ylim=(0, max(1.1 * values.max(), 1)))
    ax.grid(axis="y")
    return means


def draw_time(ax: Axes, log_lines: Sequence[dict]) -> Axes:
    """Draw how the time of all steps divides into `PARTS`, in percent: one bar with a segment for each."""
    seconds = part_seconds(log_lines)
    total = sum(seconds.values())
    if not total:
        return nothing(ax, "No step tells its time")
    shares = {name: 100 * value / total for name, value in seconds.items()}
    most = max(shares, key=shares.get)
    title = f"{most.capitalize()} takes most of the time; assignment takes {shares['assignment']:.1f} %"
    parts = [(f"{name} {share:.1f} %", TIME_COLOURS[name], np.array([share])) for name, share in shares.items()]
    stack_bars(ax, parts, title, NARROW)
    ax.set(yticks=[], xlabel="share of the time of all steps (%)")
    return ax
