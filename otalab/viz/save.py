"""Figures as files and as bytes: whole or not at all, and the same bytes for the same figure."""

import io
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from otalab.files import write_whole

SAY_NOTHING = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}  # of version and time


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
