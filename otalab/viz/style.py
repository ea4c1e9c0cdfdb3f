"""House style of the figures: one colour per gt, dark ink on white. It holds only in a `with` block or a function."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import SupportsIndex

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from otalab.errors import InputError

# Okabe and Ito (2008) in an order that keeps neighbours apart, then five of Paul Tol's "muted" scheme.
PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442",
    "#882255", "#44AA99", "#332288", "#999933", "#AA4499",
)  # fmt: skip
INK = "#1d2129"  # text and whatever matters most
MUTED = "#69707c"  # axes, units and remarks
BACKGROUND = "#b4b9c1"  # points and labels of the background
HATCH = "#dfe2e7"  # forbidden routes, ignored regions
PAPER = "#ffffff"

RC = {
    "figure.facecolor": PAPER,
    "figure.dpi": 120,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with Matplotlib, so figures are the same on every machine
    "font.size": 10,
    "text.color": INK,
    "axes.facecolor": PAPER,
    "axes.edgecolor": BACKGROUND,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlepad": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e8eaed",
    "grid.linewidth": 0.8,
    "xtick.color": BACKGROUND,
    "ytick.color": BACKGROUND,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "hatch.linewidth": 0.7,
}


# no math, because a name on a chip may contain dollar signs; zorder puts chips above the points
CHIP = {"fontsize": 8, "fontweight": "bold", "ha": "center", "va": "center", "zorder": 6.5}
CHIP |= {"annotation_clip": False, "parse_math": False}


@contextmanager
def style() -> Iterator[None]:
    """Use the house style in a `with` block or a decorated function. Matplotlib's settings are restored at its end."""
    with matplotlib.rc_context(RC):
        yield


def gt_colour(index: SupportsIndex) -> str:
    """The colour of gt `index` in every figure, as "#RRGGBB".

    Colours repeat after twelve gts, so figures number the gts as well. A negative index (background, ignored) is grey.
    """
    index = int(index)
    return PALETTE[index % len(PALETTE)] if index >= 0 else BACKGROUND


def text_colour(fill: str) -> str:
    """Ink or white, whichever has the higher contrast (WCAG 2) on the colour `fill`."""
    rgb = np.array(to_rgb(fill))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.06 else INK


def chip(ax: Axes, x: float | int, y: float | int, text: str, fill: str, **options) -> None:
    """Write `text` without parsing math, on a small rounded patch of colour `fill`; `options` go to `ax.annotate`."""
    patch = {"boxstyle": "round,pad=0.22", "facecolor": fill, "edgecolor": PAPER, "linewidth": 0.6}
    ax.annotate(text, (x, y), **CHIP | {"color": text_colour(fill), "bbox": patch} | options)


def bare(ax: Axes) -> None:
    """Remove ticks, grid and frame."""
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)


def page_figure(height: float | int, **spacing: float | tuple) -> Figure:
    """An empty figure as wide as a page and `height` inches high; `spacing` goes to its constrained layout."""
    figure = Figure(figsize=(10.7, height), layout="constrained")
    figure.get_layout_engine().set(**spacing)
    return figure


def title_figure(figure: Figure, text: str, x: float, inches: float) -> None:
    """Write the title of a figure with several axes, its middle `inches` below the upper edge of the figure."""
    y = 1 - inches / figure.get_figheight()
    figure.text(x, y, text, fontsize=12.5, fontweight="bold", va="center")


def array(values: Tensor | np.ndarray | Sequence) -> np.ndarray:
    """Convert a tensor on any device, an array or a sequence to an array."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def image_array(image: Tensor | np.ndarray) -> np.ndarray:
    """Convert an image (3, H, W) or (H, W, 3), float in 0..1 or uint8, to (H, W, 3) float in 0..1.

    Raises InputError for other shapes.
    """
    values = array(image)
    if values.ndim == 3 and values.shape[0] == 3 and values.shape[2] != 3:
        values = values.transpose(1, 2, 0)
    if values.ndim != 3 or values.shape[2] != 3:
        raise InputError(f"an image has the shape (3, H, W) or (H, W, 3), not {tuple(values.shape)}")
    return values / 255 if values.dtype == np.uint8 else values.clip(0, 1)


def plural(count: int, noun: str) -> str:
    """Format a count and its noun, such as "1 point" or "2 points"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
