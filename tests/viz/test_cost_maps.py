"""Cost maps: each cell is its point's cost, where the point lies."""

import numpy as np
import pytest
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from otalab.assign import AnchorPoints, Targets
from otalab.errors import InputError
from otalab.viz.cost_maps import cost_maps, draw_level_map
from otalab.viz.transport import CHEAP_TO_DEAR

POINTS = AnchorPoints.for_image((32, 48), strides=(8, 16))
TARGETS = Targets(torch.tensor([[4.0, 4, 20, 20], [16, 8, 40, 28]]), torch.tensor([0, 1]))


def test_a_level_map_shows_the_values_of_its_level_in_place():
    values = np.arange(float(len(POINTS)))
    scale = ScalarMappable(Normalize(0, 24), CHEAP_TO_DEAR)
    ax = draw_level_map(Figure().subplots(), POINTS, values, 0, scale)
    (image,) = ax.get_images()
    colours = np.asarray(image.get_array())
    assert colours.shape[:2] == (4, 6) and tuple(image.get_extent()) == (0, 48, 32, 0)
    lightness = colours[..., :3].sum(axis=-1).flatten()
    assert (np.diff(lightness) > 0).all(), "the dearer the paler, row by row"


def test_points_that_lie_anyhow_are_refused():
    scattered = AnchorPoints(POINTS.xy, POINTS.stride, POINTS.level)
    with pytest.raises(InputError, match="grid"):
        cost_maps(scattered, torch.ones(3, len(POINTS)), TARGETS, "")


def test_forbidden_pairs_and_an_image_without_gts_are_refused():
    cost = torch.ones(3, len(POINTS))
    cost[0, :4] = torch.inf
    with pytest.raises(InputError, match="of 2 gts 4 costs are not finite"):
        cost_maps(POINTS, cost, TARGETS, "")
    with pytest.raises(InputError, match="of 0 gts 0 costs are not finite"):
        cost_maps(POINTS, cost[2:], Targets(TARGETS.boxes[:0], TARGETS.labels[:0]), "")


def test_there_is_a_map_for_each_supplier_and_level_and_a_dot_for_each_label():
    cost = torch.rand(3, len(POINTS), generator=torch.Generator().manual_seed(0))
    matched = torch.full((len(POINTS),), -1)
    matched[[7, 8, 24]] = torch.tensor([0, 1, 1])  # the last on the coarse level
    figure = cost_maps(POINTS, cost, TARGETS, "The finding", matched, ["star", "ring"])
    assert len(figure.axes) == 2 * 3
    titles = [ax.get_title(loc="center") for ax in figure.axes[:3]]
    assert titles == ["star", "ring", "background"]
    dots = [sum(len(scatter.get_offsets()) for scatter in ax.collections) for ax in figure.axes]
    assert dots == [1, 1, 0, 0, 1, 0]
    assert "The finding" in [text.get_text() for text in figure.texts]


def test_maps_without_names_and_labels_are_drawn():
    figure = cost_maps(POINTS, torch.ones(3, len(POINTS)), TARGETS, "All the same")
    assert [ax.get_title(loc="center") for ax in figure.axes[:3]] == ["", "", "background"]
