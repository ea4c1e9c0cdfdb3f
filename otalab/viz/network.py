"""A drawing of a detector: the feature maps of its backbone and FPN, and the anchor points of every level."""

import math
from itertools import pairwise

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import Tensor

from otalab.viz.boxes import show_image
from otalab.viz.style import BACKGROUND, INK, MUTED, gt_colour, style


@style()
def network_figure(image: Tensor) -> Figure:
    """Draw how an image (3, 64, 64) passes through lesson 09's detector.

    From top to bottom: the maps of the backbone, the maps of the FPN, and the anchor points of each level.
    """
    stages = list(zip((36, 60, 84, 108), (16, 8, 4, 2), (48, 96, 128, 160), (4, 8, 16, 32), (2, 3, 4, 5), strict=True))
    upper, lower = 50, 19  # y of the middles of the backbone's and the FPN's maps
    figure = Figure(figsize=(10.2, 7.4))
    ax = figure.add_axes((0.0, 0.34, 1.0, 0.62))
    ax.set(xlim=(0, 120), ylim=(2, 62))
    ax.set_axis_off()
    arrow = {"arrowstyle": "-|>", "mutation_scale": 11, "lw": 1.3, "shrinkA": 0, "shrinkB": 0}

    def go(start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        ax.add_patch(FancyArrowPatch(start, end, color=colour, **arrow))

    for x, cells, depth, stride, number in stages:
        half = draw_map(ax, x, upper, cells, f"C{number}: {depth} x {cells} x {cells}")
        draw_map(ax, x, lower, cells, f"P{number}: 48 x {cells} x {cells}")
        go((x, upper - half - 5.2), (x, lower + half + 0.6), gt_colour(0))
        go((x, lower - half - 5.0), (x, 2.2), gt_colour(2))
        below = figure.add_axes((x / 120 - 0.095, 0.03, 0.19, 0.262))
        draw_points(below, image, stride)
    go((20, upper), (36 - half_side(16) - 0.5, upper), MUTED)
    for (a, fine, *_), (b, coarse, *_) in pairwise(stages):
        left, right = a + half_side(fine) + 0.5, b - half_side(coarse) - 0.5
        go((left, upper), (right, upper), MUTED)
        go((right, lower), (left, lower), gt_colour(1))
    told = "pyramid: tells the\nfine levels what the\ncoarse ones see"
    for y, text, colour in (
        (37, "backbone: sees", MUTED),
        (30, "1 x 1 convolution", gt_colour(0)),
        (19, told, gt_colour(1)),
        (6, "one head for all levels", gt_colour(2)),
    ):
        ax.text(11, y, text, fontsize=9, color=colour, ha="center")
    first = show_image(figure.add_axes((0.025, 0.743, 0.135, 0.186)), image)
    first.set_title("image: 3 x 64 x 64", fontsize=8.5, weight="normal", pad=3)
    title = "One image becomes 340 rows of 8 numbers: 3 class logits, 4 box sides, 1 quality"
    figure.text(0.012, 0.972, title, fontsize=12, weight="bold")
    return figure


def half_side(cells: int) -> float:
    """Half the width of a drawn map, which is wider the more cells it has."""
    return {16: 7.5, 8: 6.25, 4: 5.0, 2: 3.75}[cells]


def draw_map(ax: Axes, x: float, y: float, cells: int, text: str) -> float:
    """Draw a map of cells x cells around (x, y) with its text beneath, and return half its side."""
    half = half_side(cells)
    side = 2 * half / cells
    for i in range(cells):
        for j in range(cells):
            corner = x - half + i * side, y - half + j * side
            ax.add_patch(Rectangle(corner, side, side, fc="#eef1f5", ec=BACKGROUND, lw=0.5))
    ax.text(x, y - half - 1.2, text, ha="center", va="top", fontsize=8.5, color=INK)
    return half


def draw_points(ax: Axes, image: Tensor, stride: int) -> None:
    """Draw the image with the cells of a level and an anchor point in the middle of each cell."""
    size = image.shape[-1]
    show_image(ax, image, wash=0.35)
    edges, middles = torch.arange(0, size + 1, stride), torch.arange(stride / 2, size, stride)
    ax.vlines(edges, 0, size, color="white", lw=0.7)
    ax.hlines(edges, 0, size, color="white", lw=0.7)
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    ax.scatter(x, y, s=5 + 7 * math.log2(stride / 4), color=INK, linewidths=0, zorder=5)  # larger on coarse levels
    ax.set_title(f"stride {stride}: {len(middles) ** 2} points", fontsize=9, weight="normal", pad=4)
