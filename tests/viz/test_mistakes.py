import pytest

from otalab.errors import InputError
from otalab.lab.mistakes import DetectionCounts, GtCounts
from otalab.viz.evaluation import draw_mistakes

from .scenes import axes, rendered, texts

HALF = GtCounts(found=50, confused=2, misplaced=18, missed=30)
FEW = GtCounts(found=1, missed=3)


def bars(ax) -> dict[str, list[tuple[float, float]]]:
    """Where each part of each bar begins and how wide it is."""
    return {c.get_label(): [(bar.get_x(), bar.get_width()) for bar in c] for c in ax.containers}


def test_bars_are_shares_that_fill_a_hundred_percent():
    ax = axes()
    assert draw_mistakes(ax, {"shapes": HALF, "photos": FEW}, "A finding") is ax
    drawn = bars(ax)
    assert list(drawn) == ["found", "confused", "poorly placed", "missed"]
    assert drawn["found"] == [(0, 50), (0, 25)] and drawn["missed"] == [(70, 30), (25, 75)]
    assert drawn["poorly placed"][0] == (52, 18)
    assert ax.get_xlabel() == "share of gts (%)"
    rendered(ax.figure)


def test_wide_parts_are_labelled_and_bars_named_with_their_number():
    ax = draw_mistakes(axes(), {"shapes": HALF, "photos": FEW}, "A finding")
    assert {"50", "18", "30", "25", "75", "shapes\n100 gts", "photos\n4 gts"} <= texts(ax.figure)
    assert "2" not in texts(ax.figure), "too narrow to be labelled"
    assert ax.yaxis_inverted(), "the first bar is on top"


def test_detections_have_kinds_of_their_own():
    ax = draw_mistakes(axes(), {"photos": DetectionCounts(found=1, duplicate=1, background=2)}, "A finding")
    assert list(bars(ax)) == ["found", "duplicate", "nothing there"] and ax.get_xlabel() == "share of detections (%)"


def test_an_empty_count_renders():
    ax = draw_mistakes(axes(), {"nothing": GtCounts()}, "No gt")
    rendered(ax.figure)


@pytest.mark.parametrize("counts", [{}, {"a": FEW, "b": DetectionCounts(found=1)}])
def test_counts_of_both_kinds_or_none_are_refused(counts):
    with pytest.raises(InputError, match="one kind"):
        draw_mistakes(axes(), counts, "A finding")
