import numpy as np
import pytest

from otalab.viz.evaluation import draw_class_ap, draw_precision_recall

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


def test_a_class_is_a_point_on_its_interval_and_named_on_request():
    classes = [
        {"name": "cat", "images": 40, "AP": 0.2, "interval": [0.1, 0.3]},
        {"name": "dog", "images": 4, "AP": 0.0, "interval": [0.0, 0.0]},
    ]
    ax = axes()
    assert draw_class_ap(ax, classes, "A finding", apart="cat", named=("cat",)) is ax
    bar, point, *_, dog = ax.lines
    assert bar.get_xdata().tolist() == [40, 40] and bar.get_ydata().tolist() == [10, 30]
    assert (point.get_xdata().item(), point.get_ydata().item()) == (40, 20)
    assert point.get_color() != dog.get_color() and ax.get_xscale() == "log"
    assert {"cat", "A finding"} <= texts(ax.figure) and "dog" not in texts(ax.figure)
    rendered(ax.figure)
