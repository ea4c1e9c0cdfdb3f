import numpy as np
import pytest

from otalab.viz.precision_recall import draw_precision_recall

from .scenes import axes, rendered, texts

RECALL = np.linspace(0, 1, 101)


def test_curves_are_drawn_in_percent_and_named_with_their_mean():
    ax = axes()
    half = np.where(RECALL < 0.5, 1.0, 0.0)
    assert draw_precision_recall(ax, RECALL, {"strict": np.zeros(101), "IoU 0.5": half}, "A finding") is ax
    strict, line = ax.lines
    assert line.get_xdata()[[0, 50, 100]] == pytest.approx([0, 50, 100])
    assert line.get_ydata()[[0, 49, 50]] == pytest.approx([100, 100, 0]) and not strict.get_ydata().any()
    assert {"IoU 0.5: 49.5 %", "strict: 0.0 %", "A finding"} <= texts(ax.figure)
    assert "recall" in ax.get_xlabel() and "precision" in ax.get_ylabel()
    assert line.get_color() != strict.get_color()
    rendered(ax.figure)


def test_no_curve_renders():
    ax = axes()
    draw_precision_recall(ax, RECALL, {"nothing": np.full(101, np.nan)}, "No gt")
    rendered(ax.figure)
