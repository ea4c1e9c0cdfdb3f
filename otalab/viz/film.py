"""The assignment as a film: one frame per moment of a training run, as a GIF or, for print, as a strip."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL.Image import Dither
from torch import Tensor

from otalab.assign.types import AnchorPoints, Assignment, Targets
from otalab.checks import require
from otalab.errors import InputError
from otalab.viz.boxes import draw_assignment, point_legend, tally
from otalab.viz.output import pixels
from otalab.viz.style import BACKGROUND, INK, MUTED, PALETTE, PAPER, plural, style

HOUSE = (*PALETTE, INK, MUTED, BACKGROUND, PAPER)  # colours that a film keeps exactly
OTHERS = 255 - len(HOUSE)  # further colours of a film's palette; one of a GIF's 256 is left for unchanged pixels


@dataclass(frozen=True)
class Moment:
    """The labels of a scene after `step` training steps."""

    step: int
    assignment: Assignment

    @property
    def positives(self) -> str:
        return plural(int(self.assignment.positive.sum()), "positive")


@style()
def film_frames(
    image: Tensor | np.ndarray, points: AnchorPoints, targets: Targets, moments: Sequence[Moment]
) -> list[Figure]:
    """Draw one figure per moment, all with the same layout.

    Each shows the labels, the step, the positives of each gt, and a bar for the progress of training. Raises InputError
    if there is no moment.
    """
    require_moments(moments)
    last = max(1, *(moment.step for moment in moments))
    frames = []
    for moment in moments:
        figure = Figure(figsize=(4.2, 5.0), dpi=90)
        ax = figure.add_axes((0.02, 0.15, 0.96, 0.96 * 4.2 / 5.0 * 0.94))
        title = f"step {moment.step}: {moment.positives}"
        draw_assignment(ax, image, points, moment.assignment, targets, title=title, legend=False)
        tally(ax, moment.assignment.counts.tolist(), "positives")
        bar = figure.add_axes((0.04, 0.025, 0.92, 0.014))
        bar.set_axis_off()
        bar.set(xlim=(0, last), ylim=(0, 1))
        bar.axvspan(0, last, color=BACKGROUND, alpha=0.5, lw=0)
        bar.axvspan(0, moment.step, color=INK, lw=0)
        frames.append(figure)
    return frames


@style()
def film_strip(
    image: Tensor | np.ndarray,
    points: AnchorPoints,
    targets: Targets,
    moments: Sequence[Moment],
    count: int = 6,
    title: str | None = None,
) -> Figure:
    """The film for print: up to `count` moments, evenly spaced from the first to the last.

    Raises InputError if there is no moment, or none is to be shown.
    """
    require_moments(moments)
    require("be a whole number of at least 1", count=count)
    chosen = np.unique(np.linspace(0, len(moments) - 1, min(count, len(moments))).round().astype(int))
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.45 * rows + 0.5 * (title is not None)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax, moment in zip(axes, (moments[i] for i in chosen), strict=False):
        draw_assignment(ax, image, points, moment.assignment, targets, legend=False)
        ax.set_title(f"step {moment.step}", fontsize=10)
        ax.set_title(moment.positives, loc="right", fontsize=9, fontweight="normal", color=MUTED)
    point_legend(axes[columns * (rows - 1)], points)
    for ax in axes[len(chosen) :]:
        ax.set_visible(False)
    if title is not None:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def require_moments(moments: Sequence[Moment]) -> None:
    """Raise InputError if there is no moment."""
    if not moments:
        raise InputError("a film needs at least one moment")


def film(frames: Sequence[Figure], seconds: float = 0.3, hold: float = 2.5, dpi: float | int | None = None) -> bytes:
    """Encode figures as the bytes of a GIF that repeats for ever.

    seconds: how long each frame but the last is shown
    hold:    how long the last frame is shown, in seconds
    dpi:     replaces that of the figures

    All frames share one palette, so an unchanged colour is the same pixel value in each: nothing flickers, and the file
    is small. Raises InputError if there is no frame, or if frames differ in size.
    """
    if not frames:
        raise InputError("a film needs at least one frame")
    pictures = [pixels(figure, dpi) for figure in frames]
    sizes = sorted({picture.size for picture in pictures})
    if len(sizes) > 1:
        raise InputError(f"frames of a film are of one size, not {', '.join(f'{w} x {h}' for w, h in sizes)}")
    # the palette: the house colours, and the colours that the first, middle and last frame need most
    sheet = PIL.Image.fromarray(np.concatenate([pictures[i] for i in (0, len(pictures) // 2, -1)]))
    needed = sheet.quantize(OTHERS, dither=Dither.NONE).getpalette()
    palette = PIL.Image.new("P", (1, 1))
    palette.putpalette([round(255 * part) for colour in HOUSE for part in to_rgb(colour)] + needed[: 3 * OTHERS])
    first, *others = (picture.quantize(palette=palette, dither=Dither.NONE) for picture in pictures)
    durations = [round(1000 * seconds)] * len(others) + [round(1000 * hold)]  # ms
    gif = io.BytesIO()
    # optimize: pixels that do not change are not stored
    first.save(gif, "GIF", save_all=True, append_images=others, duration=durations, loop=0, optimize=True)
    return gif.getvalue()


def show_film(frames: Sequence[Figure], alt: str, seconds: float = 0.3, hold: float = 2.5):
    """The figures as an animated GIF: an IPython image whose alternative text is `alt`. See `film`."""
    from IPython.display import Image  # comes with Jupyter, which only the notebooks need

    return Image(film(frames, seconds, hold), format="gif", alt=alt)
