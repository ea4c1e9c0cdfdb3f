"""Compare training runs side by side: their settings, their AP over steps and their final results."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from otalab.lab.run_record import RunRecord, run_names, side_by_side
from otalab.viz.report import Column, Report
from otalab.viz.style import gt_colour, page_figure, plural, style
from otalab.viz.training import column, nothing


def draw_ap_courses(ax: Axes, runs: Sequence[RunRecord]) -> Axes:
    """Draw the AP of each run, in percent, at its evaluations.

    Each run has its own colour. Colours repeat after twelve runs, so lines are dashed from the thirteenth run on.
    """
    ax.set(xlabel="step", ylabel="average precision (%)")
    ax.grid(axis="y")
    for index, (name, run) in enumerate(zip(run_names(runs), runs, strict=True)):
        ap = 100 * column([line["metrics"] for line in run.evaluations], "AP")
        look = {"color": gt_colour(index), "ls": "-" if index < 12 else "--", "marker": "o", "ms": 4.5}
        if np.isfinite(ap).any():
            ax.plot(column(run.evaluations, "step"), ap, label=f"{name}, {ap[-1]:.1f} %", clip_on=False, **look)
    if not ax.lines:
        return nothing(ax, "No run was evaluated")
    ax.set(xlim=(0, None), ylim=(0, max(5, 1.1 * max(np.nanmax(line.get_ydata()) for line in ax.lines))))
    for text in ax.legend(loc="center left", bbox_to_anchor=(1, 0.5)).get_texts():
        text.set_parse_math(False)  # a folder's name may contain dollar signs
    best = max(ax.lines, key=lambda line: np.nan_to_num(line.get_ydata()[-1])).get_label()
    ax.set_title(f"Highest at the end: {best}", parse_math=False)
    return ax


@style()
def compare_report(runs: Sequence[RunRecord]) -> Report:
    """Build the page: AP over steps, and a table with a row per run, its results and the settings that differ."""
    rows = side_by_side(runs)
    figure = page_figure(4.2)
    draw_ap_courses(figure.subplots(), runs)
    columns = [
        Column(key, format=".3f", best=max) if "AP" in key else Column(key, format=",d" * (key == "at step"))
        for key in rows[0]
    ]
    report = Report("Runs side by side", ", ".join(row["run"] for row in rows))
    report.add_section("Average precision", f"{plural(len(runs), 'run')}, held-out AP at each evaluation.")
    report.add_figure(figure, "COCO's AP over steps.", "A curve of AP over steps for each run.")
    report.add_section(
        "Settings and results", "Settings are shown where the runs differ; AP is that of the last evaluation."
    )
    return report.add_table(rows, columns, "AP of the last evaluation, best AP and its step, time of training")
