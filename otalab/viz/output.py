"""Write figures as files, as bytes and as notebook images. The same figure always gives the same bytes."""

import io
from pathlib import Path

import matplotlib
import PIL.Image
from matplotlib.figure import Figure
from PIL.Image import Dither, Quantize

from otalab.errors import InputError
from otalab.files import write_whole

SAY_NOTHING = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}  # omits version and time
DPI = 110  # of figures in notebooks: sharp at the width of a page, yet small enough for a repository


def save_figure(figure: Figure, path: str | Path, dpi: float | int | None = None) -> None:
    """Write a figure whole or not at all, as PNG or SVG by the suffix of `path`; `dpi` replaces the figure's own.

    Raises InputError for another suffix, and for a file that cannot be written.
    """
    kind = Path(path).suffix
    if kind not in SAY_NOTHING:
        raise InputError(f"cannot draw {path}: its name must end in {' or '.join(SAY_NOTHING)}")
    same_names = matplotlib.rc_context({"svg.hashsalt": "otalab"})  # without a salt, the ids in an SVG are random
    with write_whole(path) as temporary, same_names:
        figure.savefig(temporary, format=kind[1:], dpi=dpi or "figure", metadata=SAY_NOTHING[kind])


def as_png(figure: Figure, dpi: float | int | None = None) -> bytes:
    """A figure as the bytes of a PNG file; `dpi` replaces the figure's own."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi or "figure", metadata=SAY_NOTHING[".png"])
    return buffer.getvalue()


def pixels(figure: Figure, dpi: float | int | None = None) -> PIL.Image.Image:
    """A figure as an RGB image."""
    return PIL.Image.open(io.BytesIO(as_png(figure, dpi))).convert("RGB")


def few_colours(image: PIL.Image.Image) -> bytes:
    """Encode an image as a PNG of at most 256 colours, about a third of the bytes.

    Maximum coverage keeps the colours of small marks, which a median cut would lose.
    """
    small = io.BytesIO()
    few = image.convert("RGB").quantize(256, Quantize.MAXCOVERAGE, kmeans=2, dither=Dither.NONE)
    few.save(small, format="png", optimize=True)
    return small.getvalue()


def show(figure: Figure, alt: str):
    """The figure as an IPython image. `alt`, its alternative text, says in a sentence what it shows."""
    from IPython.display import Image  # comes with Jupyter, which only the notebooks need

    return Image(few_colours(pixels(figure, DPI)), format="png", alt=alt)
