from itertools import combinations

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from otalab.viz import draw_assignment, draw_boxes, gt_colour, show_image
from otalab.viz.boxes import score_text, tag_box
from otalab.viz.style import MUTED

from .scenes import NAMES, assigned, axes, rendered, scene, texts


def dots(ax):
    return [c for c in ax.collections if isinstance(c, PathCollection)]


def test_functions_return_the_axes_they_were_given():
    s, ax = scene(), axes()
    assert show_image(ax, s.image) is ax
    assert draw_boxes(ax, s.targets.boxes) is ax
    assert draw_assignment(ax, s.image, s.points, assigned(s), s.targets) is ax


def test_pixels_are_the_units_of_the_axes():
    ax = show_image(axes(), scene().image)
    assert ax.get_xlim() == (0, 64) and ax.get_ylim() == (64, 0)
    assert tuple(ax.images[0].get_extent()) == (0, 64, 64, 0)


def test_a_washed_image_is_nearer_to_white_and_a_plain_one_is_not_changed():
    assert show_image(axes(), scene().image).images[0].get_array().max() == pytest.approx(0.4)
    assert show_image(axes(), scene().image, wash=0.5).images[0].get_array().min() == pytest.approx(0.7)


def test_boxes_lie_where_they_are_and_have_their_gts_colours():
    s = scene()
    ax = draw_boxes(show_image(axes(), s.image), s.targets.boxes)
    drawn = [p for p in ax.patches if isinstance(p, Rectangle)]
    for i, (patch, box) in enumerate(zip(drawn, s.targets.boxes.tolist(), strict=True)):
        assert [*patch.get_xy(), patch.get_width(), patch.get_height()] == [*box[:2], box[2] - box[0], box[3] - box[1]]
        assert to_hex(patch.get_edgecolor()) == gt_colour(i).lower()


def test_tags_say_number_class_and_score():
    s = scene()
    ax = show_image(axes(), s.image)
    draw_boxes(ax, s.targets.boxes, s.targets.labels, NAMES, [0.873, 0.5, 1.0], numbered=True)
    assert {"1 cat .87", "2 dog .50", "3 owl .99"} <= texts(ax.figure)
    assert score_text(0.05) == ".05"


def test_every_positive_point_has_its_gts_colour_and_its_own_place():
    s = scene()
    assignment = assigned(s)
    ax = draw_assignment(axes(), s.image, s.points, assignment, s.targets)
    drawn = {}
    for group in dots(ax):
        for at, colour in zip(group.get_offsets().tolist(), group.get_facecolors(), strict=False):
            drawn[tuple(at)] = to_hex(colour)
    positive = assignment.positive.nonzero().squeeze(1)
    assert len(positive) > 0
    for point in positive.tolist():
        assert drawn[tuple(s.points.xy[point].tolist())] == gt_colour(int(assignment.matched_gt[point])).lower()


def test_coarser_points_are_larger_and_positives_larger_than_background():
    s = scene()
    assignment = assigned(s)
    background, positive = dots(draw_assignment(axes(), s.image, s.points, assignment, s.targets))
    level = s.points.level[assignment.positive].sort(descending=True).values
    sizes = positive.get_sizes()
    assert sizes[(level == 1).numpy()].min() > sizes[(level == 0).numpy()].max() > background.get_sizes().min()


def test_ignored_points_are_crosses_under_a_hatched_region():
    s = scene(ignore=True)
    assignment = assigned(s)
    ax = draw_assignment(axes(), s.image, s.points, assignment, s.targets)
    ignored = int((assignment.matched_gt == -2).sum())
    assert ignored > 0
    assert any(len(c.get_offsets()) == ignored and to_hex(c.get_edgecolor()[0]) == MUTED for c in dots(ax))
    assert any(p.get_hatch() for p in ax.patches)
    assert "ignored" in texts(ax.figure)


@pytest.mark.parametrize("num_gt", [0, 1, 3])
def test_any_number_of_gts_renders(num_gt):
    s = scene(num_gt, ignore=True)
    ax = draw_assignment(axes(), s.image, s.points, assigned(s), s.targets)
    assert rendered(ax.figure).std() > 0
    assert f"{int(assigned(s).positive.sum())} of 80 anchor points learn an object" in texts(ax.figure)


def test_an_assigner_without_transport_is_drawn_too():
    s = scene()
    assert draw_assignment(axes(), s.image, s.points, assigned(s, "fcos"), s.targets).collections


@pytest.mark.parametrize(
    "tagged",
    [
        [("0", [60, 60, 120, 100]), ("1", [60, 60, 150, 120]), ("2", [60, 60, 100, 110])],
        [("square .77", [60, 60, 120, 100]), (".5", [85, 60, 150, 100]), (".6", [62, 60, 118, 100])],
        [(f"ring .6{i}", [60, 60, 120, 100]) for i in range(5)],
    ],
    ids=["a corner shared", "long beside short", "more tags than corners"],
)
def test_tags_lie_apart(tagged):
    ax = axes()
    ax.set(xlim=(0, 200), ylim=(150, 0))
    for text, box in tagged:
        tag_box(ax, np.array(box), text, "#0072B2", 7.5, others=np.zeros((0, 4)))
    ax.figure.canvas.draw()
    extents = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for a, b in combinations(extents, 2))


def test_a_tag_lies_on_top_of_points_and_where_it_lies_whatever_they_learn():
    s = scene()
    places = []
    for name in ("ota", "fcos"):
        ax = draw_assignment(axes(), s.image, s.points, assigned(s, name), s.targets)
        tags = [text for text in ax.texts if hasattr(text, "xy")]
        places.append([tag.xy for tag in tags])
        assert len(tags) == len(s.targets)
        assert min(tag.get_zorder() for tag in tags) > max(group.get_zorder() for group in dots(ax))
    assert places[0] == places[1]
