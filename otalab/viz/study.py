"""Figures of a study: AP of runs, differences, AP by bins of gts, and the course of training over the epochs.

In `draw_runs` each run is a dot and each mean has an interval, so that the figure shows how few runs there are.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from otalab.lab.card import Card
from otalab.lab.contrasts import Answer, Difference, interval
from otalab.lab.plan import Plan
from otalab.viz.style import BACKGROUND, INK, MUTED, gt_colour, page_figure, style
from otalab.viz.training import column

MARKERS = "os^DvPX*"  # tell methods apart whose lines overlap
LEAST_SHARE = 0.02  # of all gts; a bin with no more than that is left out, since it says nothing


def methods_of(cards: Sequence[Card]) -> list[str]:
    """The methods of a study, in the order in which they appear."""
    return list(dict.fromkeys(card.method for card in cards))


def by_method(cards: Sequence[Card], data: str) -> Iterator[tuple[int, str, list[Card]]]:
    """For each method with cards on a data set: its number in the whole study, its name, and these cards."""
    for row, method in enumerate(methods_of(cards)):
        if own := [card for card in cards if (card.data, card.method) == (data, method)]:
            yield row, method, own


def look(row: int) -> dict[str, object]:
    """Options for drawing the line of method number `row`: its marker, its colour, and some transparency."""
    return {"marker": MARKERS[row % len(MARKERS)], "markersize": 5.5, "color": gt_colour(row), "alpha": 0.8}


def points(difference: float) -> str:
    """Format a difference of AP in points, with its sign, to one decimal, or to two if one would show 0."""
    digits = 1 if abs(difference) >= 0.0005 else 2
    return f"{round(100 * difference, digits) + 0.0:+.{digits}f}"


def draw_runs(ax: Axes, cards: Sequence[Card], data: str) -> Axes:
    """Draw a row per method: the AP of each run in percent as a dot, and the mean as a stroke.

    With two runs or more, a pale bar shows the confidence interval of that mean alone.
    """
    for row, _, own in by_method(cards, data):
        each, colour = 100 * np.array([card.value("metrics/AP") for card in own]), gt_colour(row)
        if len(each) > 1:
            middle = interval(each)
            ax.plot([middle.low, middle.high], [row, row], color=colour, lw=5, alpha=0.3, solid_capstyle="butt")
        ax.plot([each.mean()], [row], "|", color=colour, markersize=15, markeredgewidth=2.4)
        ax.plot(each, np.full(len(each), row - 0.25), "o", color=colour, markersize=4, alpha=0.8, clip_on=False)
    return name_rows(ax, methods_of(cards), 0.6, "AP (%)")


def draw_differences(ax: Axes, names: Sequence[str], differences: Sequence[Difference]) -> Axes:
    """Draw a row per name: a mean difference of AP and its interval. The dot is hollow if the interval contains 0."""
    ax.axvline(0, color=BACKGROUND, lw=1.2)
    for row, found in enumerate(differences):
        ax.plot([100 * found.low, 100 * found.high], [row, row], color=INK, lw=2)
        face = INK if found.separated else "white"
        ax.plot([100 * found.mean], [row], "o", color=INK, markerfacecolor=face, markersize=7, markeredgewidth=1.8)
        above = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center"}
        ax.annotate(points(found.mean), (100 * found.mean, row), fontsize=8.5, color=MUTED, **above)
    return name_rows(ax, names, 0.7, "difference (points of AP)")


def draw_bins(ax: Axes, cards: Sequence[Card], data: str, kind: str) -> Axes:
    """Draw a line per method: mean AP over the seeds, in percent, for each bin of `kind`, "crowding" or "size".

    Bins with no more than LEAST_SHARE of the gts are left out.
    """
    first = next((getattr(card, kind) for card in cards if card.data == data), {})  # all cards have the same gts
    gts = {name: each["gts"] for name, each in first.items()}
    bins = [name for name, count in gts.items() if count > LEAST_SHARE * sum(gts.values())]
    for row, method, own in by_method(cards, data):
        means = [100 * np.mean([card.value(f"{kind}/{name}/AP") for card in own]) for name in bins]
        ax.plot(range(len(bins)), means, label=method, clip_on=False, **look(row))
    ax.set_xticks(range(len(bins)), [f"{name}\n{gts[name]:,} gts" for name in bins])
    ax.margins(x=0.12)
    unit = "largest IoU with another gt" if kind == "crowding" else "size of the gt (px)"
    ax.set(xlabel=unit, ylabel="AP (%)", ylim=(0, None))
    ax.grid(axis="y")
    return ax


def draw_epochs(ax: Axes, cards: Sequence[Card], data: str, key: str, scale: float = 1.0) -> Axes:
    """Draw a line per method: the mean over the seeds of `scale` times the number `key` of each epoch.

    See `Card.epochs`. With a `scale` other than 1 the axis is labelled as percent.
    """
    for row, method, own in by_method(cards, data):
        mean = scale * np.mean([column(card.epochs, key) for card in own], axis=0)
        ax.plot(1 + np.arange(len(mean)), mean, label=method, **look(row))
    ax.set(xlabel="epoch", ylabel=key if scale == 1 else f"{key} (%)", ylim=(0, None))
    ax.grid(axis="y")
    return ax


def name_rows(ax: Axes, names: Sequence[str], above: float, xlabel: str) -> Axes:
    """Label each row with its name, the first on top, with `above` rows of room over it."""
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -above), xlabel=xlabel)
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
    return ax


def name_lines(*axes: Axes) -> None:
    """Add a legend right of the last of the axes that names the lines of all of them."""
    lines = {line.get_label(): line for ax in axes for line in ax.lines}
    axes[-1].legend(handles=list(lines.values()), loc="center left", bbox_to_anchor=(1, 0.5))


@style()
def study_figure(plan: Plan, cards: Sequence[Card], title: str) -> Figure:
    """One panel of `draw_runs` per data set of the plan, side by side."""
    figure = titled(title, 1.5 + 0.48 * len(methods_of(cards)))
    for ax, data in zip(figure.subplots(1, len(plan.data), sharey=True, squeeze=False)[0], plan.data, strict=True):
        draw_runs(ax, cards, data).set_title(data, fontsize=9.5, fontweight="normal")
    return figure


@style()
def answers_figure(found: Sequence[Answer], title: str) -> Figure:
    """Draw a row for each contrast and data set, with intervals that hold together."""
    names = [f"{each.contrast.a} − {each.contrast.b}, {each.data}" for each in found]
    figure = titled(title, 1.3 + 0.42 * len(found))
    draw_differences(figure.subplots(), names, [each.found for each in found])
    return figure


@style()
def bins_figure(plan: Plan, cards: Sequence[Card], kind: str, title: str) -> Figure:
    """One panel of `draw_bins` per data set of the plan, side by side."""
    figure = titled(title, 4.0)
    axes = figure.subplots(1, len(plan.data), sharey=True, squeeze=False)[0]
    for ax, data in zip(axes, plan.data, strict=True):
        draw_bins(ax, cards, data, kind).set_title(data, fontsize=9.5, fontweight="normal")
    axes[0].autoscale(axis="y")  # the panels share their scale: room for the highest line of all
    axes[0].set_ylim(0, None)
    name_lines(*axes)
    return figure


@style()
def epochs_figure(cards: Sequence[Card], data: str, title: str) -> Figure:
    """Draw loss, positives per gt, gts left empty and labels changed over the epochs, for one data set."""
    keys = {"loss": 1.0, "positives per gt": 1.0, "gts left empty": 100.0, "labels changed": 100.0}
    figure = titled(title, 3.4)
    axes = figure.subplots(1, len(keys))
    for ax, (key, scale) in zip(axes, keys.items(), strict=True):
        draw_epochs(ax, cards, data, key, scale)
    name_lines(*axes)
    return figure


def titled(title: str, height: float) -> Figure:
    """An empty figure with a title, as wide as a page and `height` inches high."""
    figure = page_figure(height, w_pad=0.1)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure
