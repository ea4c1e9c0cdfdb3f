"""Figures of a study show every run, and say what is separated."""

import numpy as np
import pytest

from otalab.lab.study import Difference, Run
from otalab.viz.study import difference_figure, draw_differences, draw_runs, study_figure

from .scenes import axes, rendered, texts

RUNS = [
    Run(
        name,
        seed,
        {split: base + 0.01 * seed + lift for split, lift in (("all", 0), ("crowded", -0.1), ("apart", 0.1))},
    )
    for name, base in (("ota", 0.3), ("fcos", 0.25), ("atss", 0.2))
    for seed in range(3)
]


def test_every_run_is_a_dot_in_percent():
    ax = draw_runs(axes(), RUNS, "crowded")
    dots = [line for line in ax.get_lines() if line.get_marker() == "o"]
    assert [dot.get_xdata().tolist() for dot in dots] == [
        pytest.approx([20, 21, 22]), pytest.approx([15, 16, 17]), pytest.approx([10, 11, 12]),
    ]  # fmt: skip
    assert [label.get_text() for label in ax.get_yticklabels()] == ["ota", "fcos", "atss"]
    assert "%" in ax.get_xlabel()


def test_a_difference_that_may_be_none_is_hollow():
    ax = draw_differences(axes(), ["a", "b"], [Difference(0.02, 0.01, 0.03), Difference(0.02, -0.01, 0.05)])
    filled, hollow = [line for line in ax.get_lines() if line.get_marker() == "o"]
    assert filled.get_markerfacecolor() != "white" and hollow.get_markerfacecolor() == "white"


@pytest.mark.parametrize(
    "draw", [lambda: study_figure(RUNS, "a title"), lambda: difference_figure(RUNS, "ota", "a title")]
)
def test_the_figures_show_all_crowded_and_apart(draw):
    figure = draw()
    assert np.ptp(rendered(figure)) > 0
    said = " ".join(texts(figure))
    assert all(word in said for word in ("a title", "all scenes", "crowded", "apart", "fcos"))
