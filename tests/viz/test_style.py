import ast
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import otalab.viz
from otalab.errors import InputError
from otalab.viz import PALETTE, gt_colour, style
from otalab.viz.output import save_figure
from otalab.viz.style import BACKGROUND, INK, image_array, plural, text_colour


def luminance(colour):
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def seen_without_red_cones(colour):
    """Protanopia after Vienot, Brettel and Mollon (1999), linear RGB."""
    rgb = np.array(to_rgb(colour)) ** 2.2
    red, green, blue = rgb
    return np.array([0.112 * red + 0.888 * green, 0.112 * red + 0.888 * green, 0.004 * red - 0.004 * green + blue])


def test_the_style_leaves_no_setting_behind():
    before = dict(matplotlib.rcParams)
    with style():
        assert matplotlib.rcParams["axes.titlelocation"] == "left"
    assert dict(matplotlib.rcParams) == before


def test_the_style_leaves_no_setting_behind_after_an_error():
    before = dict(matplotlib.rcParams)
    with pytest.raises(RuntimeError), style():
        raise RuntimeError
    assert dict(matplotlib.rcParams) == before


def test_no_figure_needs_pyplot():
    for path in Path(otalab.viz.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = getattr(node, "module", None) or ""
            assert "pyplot" not in names and "pyplot" not in module, path


def test_a_gt_keeps_its_colour_and_neighbours_differ():
    assert [gt_colour(i) for i in range(12)] == list(PALETTE)
    assert len(set(PALETTE)) == 12
    assert gt_colour(12) == gt_colour(0)
    assert gt_colour(-1) == gt_colour(-2) == BACKGROUND


def test_the_first_seven_colours_differ_for_a_reader_without_red_cones():
    for a, b in combinations(PALETTE[:7], 2):
        assert np.abs(seen_without_red_cones(a) - seen_without_red_cones(b)).max() > 0.05, (a, b)


def test_text_on_every_colour_is_legible():
    for colour in PALETTE:
        assert contrast(colour, text_colour(colour)) > 4, colour
        assert contrast(colour, text_colour(colour)) == max(contrast(colour, c) for c in ("#ffffff", INK)), colour


@pytest.mark.parametrize(
    "image",
    [
        torch.full((3, 5, 7), 0.5),
        torch.full((3, 5, 7), 128, dtype=torch.uint8),
        np.full((5, 7, 3), 0.5, dtype=np.float32),
        np.full((5, 7, 3), 128, dtype=np.uint8),
    ],
)
def test_images_of_every_layout_become_the_same_pixels(image):
    pixels = image_array(image)
    assert pixels.shape == (5, 7, 3)
    assert np.allclose(pixels, 0.5, atol=0.01)


def test_an_image_of_another_shape_is_refused_with_its_shape():
    with pytest.raises(InputError, match=r"\(1, 5, 7\)"):
        image_array(torch.zeros(1, 5, 7))


def test_counts_agree_with_their_nouns():
    assert [plural(n, "point") for n in (0, 1, 2, 1360)] == ["0 points", "1 point", "2 points", "1,360 points"]


def test_a_figure_is_saved_as_png_or_svg_and_as_nothing_else(tmp_path):
    with pytest.raises(InputError, match=r"cannot draw .*picture\.pdf: its name must end in \.png or \.svg"):
        save_figure(Figure(), tmp_path / "picture.pdf")
