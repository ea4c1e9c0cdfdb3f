"""How Sinkhorn converges, as a figure: the error over iterations, and how many labels are wrong."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from otalab.lab.convergence import Convergence
from otalab.viz.style import MUTED, page_figure, plural, style

SMALL_TO_LARGE = LinearSegmentedColormap.from_list("otalab.eps", ["#0b2f4e", "#0072B2", "#56B4E9", "#a9d6f2"])
EARLY, SETTLED = "#D55E00", "#0072B2"  # colours: after the requested iterations, and at convergence
DASHES = (0, (3, 1.5))
SHOWN = (0, 3, 5, 7)  # indices of the courses drawn on the left; more curves would overlap
LEAST_ERROR = 1e-10  # smaller errors are drawn here: they do not matter, and zero has no logarithm


def draw_errors(ax: Axes, convergence: Convergence) -> Axes:
    """Draw the largest relative error of a marginal over iterations: darker for smaller eps, dashed for Newton."""
    shown = [convergence.courses[index] for index in SHOWN]
    for index, course in enumerate(shown):
        colour = to_hex(SMALL_TO_LARGE(1 - index / (len(shown) - 1)))
        looks = {"label": f"eps {course.eps:g}"}, {"ls": DASHES, "lw": 1.4}
        for errors, look in zip((course.errors, course.newton), looks, strict=True):
            ax.plot(np.arange(1, len(errors) + 1), errors.clip(LEAST_ERROR), color=colour, **look)
    last = len(shown[0].errors)
    ax.set(xscale="log", yscale="log", xlim=(1, last), xlabel="iterations", ylabel="largest error of a sum (relative)")
    ax.axvline(convergence.max_iter, color=MUTED, lw=0.8, ls=":", zorder=1)
    asked = f"{convergence.max_iter:,}"
    ax.text(1.07 * convergence.max_iter, 0.015, asked, transform=ax.get_xaxis_transform(), color=MUTED)
    ax.grid()
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    dashed = any(len(course.newton) for course in shown)
    if dashed:
        ax.plot([], [], color=MUTED, ls=DASHES, lw=1.4, label="Newton")
    ax.legend(loc="lower right" if dashed else "lower left", handlelength=1.6)
    ax.set_title(errors_finding(convergence))
    return ax


def draw_wrong_labels(ax: Axes, convergence: Convergence) -> Axes:
    """Draw wrong labels, in percent of the positives, over eps: after the requested iterations, and at convergence."""
    eps = np.array([course.eps for course in convergence.courses])
    early, settled = wrong_shares(convergence)
    for values, colour, width, name in (
        (settled, SETTLED, 4.0, "at convergence (Newton)"),  # wider, so that it shows beneath the other curve
        (early, EARLY, 1.8, f"after {plural(convergence.max_iter, 'iteration')}"),
    ):
        ax.plot(eps, values, color=colour, lw=width, marker="o", ms=3 + width, label=name, clip_on=False, zorder=3)
    handles, names = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], names[::-1], loc="upper center", labelcolor="linecolor", handlelength=1.6)
    top = np.nanmax([early, settled])
    ax.set(xscale="log", xlim=(eps.min(), eps.max()), ylim=(0, max(1.08 * top, 1)))
    ax.set(xlabel="eps (units of cost)", ylabel="labels wrong (% of positives)")
    ax.set_xticks(eps, [f"{value:g}" for value in eps])
    ax.minorticks_off()
    ax.grid(axis="y")
    ax.set_title(labels_finding(convergence))
    return ax


@style()
def convergence_figure(convergence: Convergence, name: str = "") -> Figure:
    """`draw_errors` and `draw_wrong_labels` side by side; the name of the problem, if given, stands beneath."""
    beneath = 0.045 * bool(name)
    figure = page_figure(4.0, wspace=0.07, rect=(0, beneath, 1, 1 - beneath))
    left, right = figure.subplots(1, 2)
    draw_errors(left, convergence)
    draw_wrong_labels(right, convergence)
    positives = plural(convergence.positives, "positive label")
    figure.text(0.008, 0.02, f"{name}; {positives}" if name else "", color=MUTED, fontsize=8)
    return figure


def wrong_shares(convergence: Convergence) -> np.ndarray:
    """Wrong labels in percent of the positives, (2, number of eps).

    Row 0 is after the requested iterations. Row 1 is at convergence, NaN where Newton's method did not converge.
    """
    counts = [(course.wrong_after(convergence.max_iter), course.settled) for course in convergence.courses]
    return 100 * np.array(counts, dtype=float).T / max(1, convergence.positives)  # None becomes NaN


def errors_finding(convergence: Convergence) -> str:
    """Say in a sentence how large Sinkhorn's error is at the smallest eps.

    It is compared with the error of Newton's method if that converged, else with Sinkhorn's error at the largest eps.
    """
    first, last = convergence.courses[0], convergence.courses[-1]
    if len(last.newton) and last.settled is not None:
        reached = f"{plural(len(last.errors), 'iteration')} reach {last.errors[-1]:.0e}"
        return f"eps {last.eps:g}: {reached}, Newton {last.newton[-1]:.0e}"
    left, right = (course.errors[convergence.max_iter - 1] for course in (first, last))
    count = plural(convergence.max_iter, "iteration")
    if right > 2 * left:
        return f"{count}: eps {last.eps:g} is {right / left:,.0f} times as far off as {first.eps:g}"
    return f"{count}: a small eps is no further off than a large one"


def labels_finding(convergence: Convergence) -> str:
    """Say in a sentence whether a smaller eps makes labels better or worse after the requested iterations."""
    early, _ = wrong_shares(convergence)
    best = int(early.argmin())
    count = plural(convergence.max_iter, "iteration")
    least, eps = convergence.courses[-1].eps, convergence.courses[best].eps
    if early[-1] <= early[best]:
        return f"{count}: labels are best at the least eps, {least:g}"
    return f"{count}: {early[-1]:.0f} % wrong at eps {least:g}, {early[best]:.0f} % at {eps:g}"
