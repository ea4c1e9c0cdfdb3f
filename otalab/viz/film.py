"""The assignment as a film: a frame for each checkpoint of a training run, as a GIF or, for print, as a strip."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from otalab.assign.types import AnchorPoints, Assignment, Targets
from otalab.errors import InputError
from otalab.viz.boxes import draw_assignment, tally
from otalab.viz.save import as_png
from otalab.viz.style import BACKGROUND, INK, MUTED, PALETTE, PAPER, plural, style

HOUSE = (*PALETTE, INK, MUTED, BACKGROUND, PAPER)  # colours that a film keeps as they are
OTHERS = 255 - len(HOUSE)  # colours of a film's palette besides; one of the 256 says "as before"


@dataclass(frozen=True)
class Moment:
    """What a scene's labels were after so many training steps."""

    step: int
    assignment: Assignment


def film_frames(
    image: Tensor | np.ndarray,
    points: AnchorPoints,
    targets: Targets,
    moments: Sequence[Moment],
    wash: float = 0.6,
) -> list[Figure]:
    """A figure for each moment, all laid out alike: labels, step, positives of each gt, and how far training is.

    Raises InputError if there is no moment.
    """
    require_moments(moments)
    last = max(moment.step for moment in moments)
    frames = []
    for moment in moments:
        with style():
            figure = Figure(figsize=(4.2, 5.0), dpi=90)
            ax = figure.add_axes((0.02, 0.15, 0.96, 0.96 * 4.2 / 5.0 * 0.94))
            draw_assignment(ax, image, points, moment.assignment, targets, wash, legend=False)
            positives = plural(int(moment.assignment.positive.sum()), "positive")
            ax.set_title(f"step {moment.step}: {positives}", loc="left")
            tally(ax, moment.assignment.counts.tolist(), "positives")
            bar = figure.add_axes((0.04, 0.025, 0.92, 0.014))
            bar.set(xlim=(0, max(last, 1)), ylim=(0, 1))
            bar.set_axis_off()
            bar.axvspan(0, max(last, 1), color=BACKGROUND, alpha=0.5, lw=0)
            bar.axvspan(0, moment.step, color=INK, lw=0)
        frames.append(figure)
    return frames


def film_strip(
    image: Tensor | np.ndarray,
    points: AnchorPoints,
    targets: Targets,
    moments: Sequence[Moment],
    count: int = 6,
    title: str | None = None,
    wash: float = 0.6,
) -> Figure:
    """The film on paper: `count` of its moments, the first and the last among them, evenly between.

    Raises InputError if there is no moment.
    """
    require_moments(moments)
    chosen = np.unique(np.linspace(0, len(moments) - 1, min(count, len(moments))).round().astype(int))
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    with style():
        figure = Figure(figsize=(3.2 * columns, 3.45 * rows + 0.5 * (title is not None)), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for ax, index in zip(axes, chosen, strict=False):
            moment = moments[index]
            draw_assignment(ax, image, points, moment.assignment, targets, wash, legend=False)
            ax.set_title(f"step {moment.step}", fontsize=10)
            positives = plural(int(moment.assignment.positive.sum()), "positive")
            ax.set_title(positives, loc="right", fontsize=9, fontweight="normal", color=MUTED)
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
    """The figures, one after the other, as the bytes of a GIF that repeats for ever.

    seconds, hold: how long a frame stays, and how long the last one; dpi replaces the figures' own. All frames share
    one palette, so that a colour that stays is the same pixel value in each: nothing flickers, and little is stored.
    Raises InputError for no frames, or frames of different sizes.
    """
    if not frames:
        raise InputError("a film needs at least one frame")
    pictures = [Image.open(io.BytesIO(as_png(figure, dpi))).convert("RGB") for figure in frames]
    sizes = {p.size for p in pictures}
    if len(sizes) > 1:
        raise InputError(f"frames of a film are of one size, not {', '.join(f'{w} x {h}' for w, h in sorted(sizes))}")
    palette = shared_palette(pictures)
    indexed = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    durations = [round(1000 * seconds)] * (len(indexed) - 1) + [round(1000 * hold)]  # ms
    buffer = io.BytesIO()
    indexed[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=indexed[1:],
        duration=durations if len(indexed) > 1 else durations[0],
        loop=0,
        optimize=True,  # pixels that do not change are left out
    )
    return buffer.getvalue()


def shared_palette(pictures: Sequence[Image.Image]) -> Image.Image:
    """A palette image for all pictures: the house's colours, and the most needed of the first, middle and last."""
    chosen = [pictures[i] for i in sorted({0, len(pictures) // 2, len(pictures) - 1})]
    width, height = chosen[0].size
    sheet = Image.new("RGB", (width * len(chosen), height))
    for i, one in enumerate(chosen):
        sheet.paste(one, (i * width, 0))
    needed = sheet.quantize(OTHERS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette([round(255 * part) for colour in HOUSE for part in to_rgb(colour)] + needed[: 3 * OTHERS])
    return palette
