"""Figures as files, as bytes and in a notebook: whole or not at all, and the same bytes for the same figure."""

import io
from pathlib import Path

import matplotlib
import PIL.Image
from matplotlib.figure import Figure
from PIL.Image import Dither, Quantize

from otalab.files import write_whole

SAY_NOTHING = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}  # of version and time
DPI = 110  # of figures in notebooks: sharp at the width of a page, and small enough for a repository


def save_figure(figure: Figure, path: str | Path, dpi: float | int | None = None) -> None:
    """Write a figure as .png or .svg; `dpi` replaces the figure's own."""
    kind = Path(path).suffix
    same_names = matplotlib.rc_context({"svg.hashsalt": "otalab"})  # an SVG's elements else get new ones each time
    with write_whole(path) as temporary, same_names:
        figure.savefig(temporary, format=kind[1:], dpi=dpi or "figure", metadata=SAY_NOTHING[kind])


def as_png(figure: Figure, dpi: float | int | None = None) -> bytes:
    """A figure as a PNG file's bytes; `dpi` replaces the figure's own."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi or "figure", metadata=SAY_NOTHING[".png"])
    return buffer.getvalue()


def pixels(figure: Figure, dpi: float | int | None = None) -> PIL.Image.Image:
    """A figure as an RGB image."""
    return PIL.Image.open(io.BytesIO(as_png(figure, dpi))).convert("RGB")


def few_colours(image: PIL.Image.Image) -> bytes:
    """A PNG of at most 256 colours, a third of the bytes; small marks keep theirs, which a median cut would take."""
    small = io.BytesIO()
    few = image.convert("RGB").quantize(256, Quantize.MAXCOVERAGE, kmeans=2, dither=Dither.NONE)
    few.save(small, format="png", optimize=True)
    return small.getvalue()


def show(figure: Figure, alt: str):
    """The figure as an IPython image whose alternative text is `alt`: what it shows, in a sentence."""
    from IPython.display import Image  # comes with Jupyter, which only the notebooks need

    return Image(few_colours(pixels(figure, DPI)), format="png", alt=alt)
