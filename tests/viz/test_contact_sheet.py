from itertools import pairwise

import numpy as np
import pytest
import torch

from otalab.errors import InputError
from otalab.viz.contact_sheet import GAP, WIDTH, contact_sheet, layout
from otalab.viz.style import gt_colour

from .scenes import rendered, texts


def target(*rows, ignored=()):
    """Boxes (box, label)."""
    return {
        "boxes": torch.tensor([box for box, _ in rows], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([label for _, label in rows], dtype=torch.int64),
        "ignore_boxes": torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4),
    }


BOX = (4.0, 4, 20, 20)


def colours(figure) -> list[str]:
    """Of the boxes' edges, in the order of images."""
    return [patch.get_edgecolor() for ax in figure.axes for patch in ax.patches]


@pytest.mark.parametrize("columns", [1, 4, 6])
def test_rows_fill_the_width_and_no_images_overlap(columns):
    aspects = [1.0, 1.5, 0.5, 2.5, 1.0, 1.0, 0.7]
    cells, height = layout(aspects, columns)
    assert [wide / high for _, _, wide, high in cells] == pytest.approx(aspects)
    for first in range(0, len(cells) - columns + 1, columns):
        row = cells[first : first + columns]
        assert row[-1][0] + row[-1][2] == pytest.approx(WIDTH)
        assert len({y for _, y, _, _ in row}) == 1
        for left, right in pairwise(row):
            assert right[0] == pytest.approx(left[0] + left[2] + GAP)
    assert max(y + high for _, y, _, high in cells) < height
    assert max(x + wide for x, _, wide, _ in cells) <= WIDTH + 1e-9


def test_each_box_has_the_colour_of_its_class_and_the_legend_counts_them():
    images = [np.zeros((30, 40, 3), dtype=np.uint8), torch.zeros(3, 40, 30)]
    figure = contact_sheet(images, [target((BOX, 2), (BOX, 0)), target((BOX, 2))], ["cat", "dog", "owl$x$"], "All")
    said = texts(figure)
    assert "All: 3 boxes" in said and "owl$x$ 2" in said and "cat 1" in said and not any("dog" in text for text in said)
    shown = colours(figure)
    assert len(shown) == 3 and shown[0] == shown[2] != shown[1]
    assert rendered(figure).shape[1] == round(150 * WIDTH)


def test_classes_beyond_nine_are_grey_and_counted_together():
    rows = [(BOX, label) for label in range(12) for _ in range(13 - label)]
    figure = contact_sheet([np.zeros((30, 40, 3), dtype=np.uint8)], [target(*rows)], [f"c{i}" for i in range(12)])
    assert "3 more 9" in texts(figure) and "1 image: 90 boxes" in texts(figure)
    assert len(set(colours(figure))) == 10 and gt_colour(-1)


def test_images_without_boxes_narrow_ones_and_regions_to_ignore_are_drawn():
    images = [np.zeros((4, 400, 3), dtype=np.uint8), np.zeros((400, 4, 3), dtype=np.uint8)]
    figure = contact_sheet(images, [target(), target(ignored=[BOX])], ["cat"])
    assert "2 images: 0 boxes" in texts(figure) and len(colours(figure)) == 1
    assert rendered(figure).shape[1] == round(150 * WIDTH)


def test_a_sheet_without_columns_is_refused():
    with pytest.raises(InputError, match="columns must be a whole number of at least 1, not 0"):
        contact_sheet([], [], [], columns=0)
